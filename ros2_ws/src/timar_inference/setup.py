from setuptools import find_packages, setup

NAME = "timar_inference"

setup(
    name=NAME,
    version="0.1.0",
    description="Runs TIMAR on the conversation clock: forms turns, generates head motion, logs decisions.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={"console_scripts": ["inference = timar_inference.inference_node:main"]},
)
