from glob import glob

from setuptools import find_packages, setup

NAME = "timar_bringup"

setup(
    name=NAME,
    version="0.1.0",
    description="The node graph: launch files, configuration, the composer and the demo.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
        ("share/" + NAME + "/launch", glob("launch/*.launch.py")),
        ("share/" + NAME + "/config", glob("config/*")),
        ("share/" + NAME + "/rviz", glob("rviz/*.rviz")),
    ],
    entry_points={
        "console_scripts": ["metrics = timar_bringup.metrics_node:main"],
        "timar.commands": [
            "run = timar_bringup.composer:main",
            "demo = timar_bringup.demo:main",
            "talk = timar_bringup.talk:main",
            "params = timar_bringup.parameters:main",
            "doctor = timar_bringup.doctor:main",
            "keys = timar_bringup.network:keys",
            "service = timar_bringup.service:main",
        ],
    },
)
