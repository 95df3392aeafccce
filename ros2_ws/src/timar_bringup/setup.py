from setuptools import find_packages, setup

NAME = "timar_bringup"

setup(
    name=NAME,
    version="0.1.0",
    description="The node graph: launch files, configuration, RViz layout. No logic.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={},
)
