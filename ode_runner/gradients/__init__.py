"""Gradient modes: one module per mode, chosen by `conf/gradient/*.yaml`."""
