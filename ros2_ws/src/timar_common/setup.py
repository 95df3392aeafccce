from setuptools import find_packages, setup

NAME = "timar_common"

setup(
    name=NAME,
    version="0.1.0",
    description="Sample clock, sample streams, described configuration, diagnostics and the lifecycle base shared by every room.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={"console_scripts": ["timar = timar_common.cli:main"]},
)
