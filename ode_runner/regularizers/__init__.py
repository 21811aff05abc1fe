"""Penalties besides the loss: one module per regulariser, chosen by `conf/regularizer/*.yaml`."""
