"""Publishing: from a finished run to a model folder that is ready to ship."""
