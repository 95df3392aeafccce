from setuptools import find_packages, setup

NAME = "timar_websocket"

# The client runs beside a voice bot, without ROS 2: pip install ./ros2_ws/src/timar_websocket
setup(
    name=NAME,
    version="0.1.0",
    description="The head on a WebSocket: its server, and the client that voice bots speak through.",
    license="Apache-2.0",
    packages=find_packages(),
    python_requires=">=3.10",
    install_requires=["msgspec", "websockets>=14"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={"console_scripts": ["websocket = timar_websocket.websocket_node:main"]},
)
