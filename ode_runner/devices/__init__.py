"""Tensors on their devices: transfers, and snapshots of side effects of a computation."""
