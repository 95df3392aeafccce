from setuptools import find_packages, setup

NAME = "timar_retargeting"

setup(
    name=NAME,
    version="0.1.0",
    description="Turns head motion into joint trajectories that respect every limit.",
    license="Apache-2.0",
    packages=find_packages(),
    package_data={NAME: ["*.yaml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "console_scripts": ["retargeting = timar_retargeting.retargeting_node:main"],
        "timar.commands": ["robot = timar_retargeting.robot_command:main"],
    },
)
