"""ONNX files, from their graph alone."""
