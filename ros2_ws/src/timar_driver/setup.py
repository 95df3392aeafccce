from setuptools import find_packages, setup

NAME = "timar_driver"

setup(
    name=NAME,
    version="0.1.0",
    description="Drives joints: trajectories, servo buses, stop chain, simulated servos, Reachy Mini.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "console_scripts": ["driver = timar_driver.driver_node:main"],
        "timar.commands": ["bus = timar_driver.bus_command:main"],
        "timar.servo_buses": [
            "dynamixel = timar_driver.servo_protocols:DYNAMIXEL",
            "feetech = timar_driver.servo_protocols:FEETECH",
        ],
        "timar.joint_drivers": ["reachy_mini = timar_driver.reachy_mini:reachy_mini"],
    },
)
