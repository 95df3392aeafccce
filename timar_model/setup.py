from setuptools import find_packages, setup

NAME = "timar_model"

setup(
    name=NAME,
    version="0.1.0",
    description="TIMAR: the model, its incremental session, checkpoints and engines. Plain Python, no ROS.",
    license="Apache-2.0",
    packages=find_packages(),
    package_data={NAME: ["models/*/*", "gestures/*.yaml", "gestures/*.safetensors", "gestures/*.md"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
    ],
    entry_points={
        "timar.commands": [
            "import = timar_model.commands:import_model",
            "export = timar_model.commands:export",
            "engines = timar_model.commands:engines",
        ],
    },
)
