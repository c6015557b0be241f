"""Files and modules become networks and properties: torch, torch.export, ONNX, VNN-LIB."""
