from setuptools import find_packages, setup

NAME = "timar_livekit"

# Runs in the bot's own environment, without ROS 2: docs/voice-bots.md says how it is installed there.
setup(
    name=NAME,
    version="0.1.0",
    description="Audio input and output of LiveKit Agents that speak and listen with the head.",
    license="Apache-2.0",
    packages=find_packages(),
    python_requires=">=3.10",
    install_requires=["timar-websocket", "livekit-agents>=1.8,<2"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
)
