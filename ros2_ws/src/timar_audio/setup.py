from setuptools import find_packages, setup

NAME = "timar_audio"

setup(
    name=NAME,
    version="0.1.0",
    description="Audio of the head: capture, playback, voice activity detection and turn taking.",
    license="Apache-2.0",
    packages=find_packages(),
    package_data={NAME: ["*.npz"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "capture = timar_audio.capture_node:main",
            "playback = timar_audio.playback_node:main",
            "turns = timar_audio.turns_node:main",
            "time_server = timar_audio.time_server_node:main",
            "audio_common = timar_audio.audio_common_node:main",
            "ros4hri = timar_audio.ros4hri_node:main",
        ],
        "timar.commands": ["audio = timar_audio.audio_command:main"],
    },
)
