from setuptools import find_packages, setup

NAME = "timar_replay"

setup(
    name=NAME,
    version="0.1.0",
    description="Runs the nodes' components on bags: replay, batches and scenarios.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        # Names of before timar_bag was a package of its own; until 0.3.
        "console_scripts": [
            "recorder = timar_bag.recorder_node:main",
            "bag_player = timar_bag.bag_player_node:main",
            "motion_player = timar_bag.motion_player_node:main",
        ],
        "timar.commands": ["replay = timar_replay.replay_command:replay"],
    },
)
