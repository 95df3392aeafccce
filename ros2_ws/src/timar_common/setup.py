from setuptools import find_packages, setup

NAME = "timar_common"

setup(
    name=NAME,
    version="0.1.0",
    description="Shared by every package: sample clock and streams, configuration, diagnostics, node base.",
    license="Apache-2.0",
    packages=find_packages(),
    # Without ROS, whose own packages come from its distribution.
    install_requires=["numpy>=2.2", "PyYAML>=6", "rich>=14", "rosbags>=0.11", "soundfile>=0.13", "soxr>=0.5"],
    python_requires=">=3.10",
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={"console_scripts": ["timar = timar_common.cli:main"]},
)
