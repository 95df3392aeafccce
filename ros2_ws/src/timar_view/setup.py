from setuptools import find_packages, setup

NAME = "timar_view"

setup(
    name=NAME,
    version="0.1.0",
    description="Shows the head in a browser.",
    license="Apache-2.0",
    packages=find_packages(),
    package_data={NAME: ["static/*.js"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={"console_scripts": ["view = timar_view.view_node:main"]},
)
