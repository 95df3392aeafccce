"""A head with two joints: tiny_head.urdf, how motion moves it, and its servos. Nothing here is imported."""
