from setuptools import find_packages, setup

NAME = "timar_report"

setup(
    name=NAME,
    version="0.1.0",
    description="Scores, compares and draws recorded conversations.",
    license="Apache-2.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "timar.commands": ["summary = timar_report.commands:summary"],
    },
)
