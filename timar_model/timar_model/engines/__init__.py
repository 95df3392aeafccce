"""What computes a model: torch, onnxruntime, int8; and the export of graphs."""
