"""URDF and joint map of the default head."""
