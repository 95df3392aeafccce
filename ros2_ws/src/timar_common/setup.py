from setuptools import find_packages, setup

NAME = "timar_common"

setup(
    name=NAME,
    version="0.1.0",
    description="Shared by every room: sample clock and streams, configuration, diagnostics, node base.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={"console_scripts": ["timar = timar_common.cli:main"]},
)
