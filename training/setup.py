from setuptools import find_packages, setup

setup(
    name="timar_training",
    version="0.1.0",
    description="Offline side of TIMAR: dyadic data, synthetic conversations, trainer and evaluation.",
    license="Apache-2.0",
    packages=find_packages(),
    package_data={"timar_training": ["configs/*.yaml", "evaluation/*.html"]},
    entry_points={
        "timar.commands": [
            "data = timar_training.data_command:main",
            "train = timar_training.train_command:main",
            "train-gestures = timar_training.train_gestures_command:main",
            "evaluate = timar_training.evaluate_command:main",
            "compare-models = timar_training.compare_command:main",
            "publish = timar_training.publish_command:main",
            "listen = timar_training.listen_command:main",
        ]
    },
)
