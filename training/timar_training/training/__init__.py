"""Model training: run configuration, loop, checkpoints, validation."""
