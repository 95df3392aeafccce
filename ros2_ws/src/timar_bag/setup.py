from setuptools import find_packages, setup

NAME = "timar_bag"

setup(
    name=NAME,
    version="0.1.0",
    description="Reads, writes, records, plays, repairs and checks rosbag2 files.",
    license="Apache-2.0",
    packages=find_packages(),
    package_data={NAME: ["*.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "recorder = timar_bag.recorder_node:main",
            "bag_player = timar_bag.bag_player_node:main",
            "motion_player = timar_bag.motion_player_node:main",
        ],
        "timar.commands": ["bag = timar_bag.commands:bag"],
    },
)
