from setuptools import find_packages, setup

NAME, VERSION = "timar_model", "0.1.0"

setup(
    name=NAME,
    version=VERSION,
    description="TIMAR: the model, its incremental session, checkpoints and engines. Plain Python, no ROS.",
    license="Apache-2.0",
    packages=find_packages(),
    python_requires=">=3.10",
    # What generating motion needs; `timar-model import` and `export` need the extra.
    install_requires=[
        f"timar_common=={VERSION}",
        "numpy>=2.2",
        "onnxruntime>=1.22",
        "PyYAML>=6",
        "safetensors>=0.5",
        "scipy>=1.15",
        "typing-extensions>=4.12",
    ],
    extras_require={"import": ["huggingface-hub>=1", "onnx>=1.19", "torch>=2.8", "transformers>=5"]},
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
            "generate = timar_model.commands:generate",
        ],
        "console_scripts": ["timar-model = timar_model.commands:main"],
    },
)
