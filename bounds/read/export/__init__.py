"""Archives of torch.export, of which nothing is unpickled."""
