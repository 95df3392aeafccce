from setuptools import find_packages, setup

NAME = "timar_dialogue"

setup(
    name=NAME,
    version="0.1.0",
    description="Dialogue of the head: recogniser, what to answer, and voice, each a plugin.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={"console_scripts": ["dialogue = timar_dialogue.dialogue_node:main"]},
)
