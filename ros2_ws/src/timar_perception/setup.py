from setuptools import find_packages, setup

NAME = "timar_perception"

setup(
    name=NAME,
    version="0.1.0",
    description="Eyes of the head: a camera's pictures become the user's neck and jaw.",
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
