"""torch modules, by way of torch.fx."""
