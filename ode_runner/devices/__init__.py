"""Tensors on their devices: transfers, and snapshots of the side effects of a computation."""
