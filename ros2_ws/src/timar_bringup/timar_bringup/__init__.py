"""The node graph: launch files, configuration, RViz layout. No logic."""
