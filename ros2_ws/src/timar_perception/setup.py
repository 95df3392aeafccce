from setuptools import find_packages, setup

NAME = "timar_perception"

setup(
    name=NAME,
    version="0.1.0",
    description="Face tracking: the user's head pose, jaw and expression from camera images.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "console_scripts": ["perception = timar_perception.perception_node:main"],
        "timar.commands": ["perception = timar_perception.perception_command:main"],
    },
)
