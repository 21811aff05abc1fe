"""Regularisers, penalties in addition to the loss: one module per regulariser, chosen by `conf/regularizer/*.yaml`."""
