from glob import glob

from setuptools import find_packages, setup

NAME = "timar_description"

setup(
    name=NAME,
    version="0.1.0",
    description="URDF and joint map of the default head.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
        ("share/" + NAME + "/urdf", sorted(glob("urdf/*.urdf") + glob("urdf/*.yaml"))),
    ],
    entry_points={},
)
