"""Tensors on their devices: transfers, and snapshots of what a computation changes besides its results."""
