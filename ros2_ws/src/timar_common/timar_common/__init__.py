"""Sample clock, sample streams, described configuration, diagnostics and the lifecycle base shared by every room."""
