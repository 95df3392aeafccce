"""TIMAR: the model, its incremental session, checkpoints and engines. Plain Python, no ROS."""
