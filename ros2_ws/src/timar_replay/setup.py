from setuptools import find_packages, setup

NAME = "timar_replay"

setup(
    name=NAME,
    version="0.1.0",
    description="Records rosbag2 files, reads them back, replays, scores and draws them.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "recorder = timar_replay.recorder_node:main",
            "bag_player = timar_replay.bag_player_node:main",
            "motion_player = timar_replay.motion_player_node:main",
        ],
        "timar.commands": [
            "summary = timar_replay.commands:summary",
            "bag = timar_replay.commands:bag",
            "replay = timar_replay.replay_command:replay",
        ],
    },
)
