"""Numerical methods: one module per method, chosen by `conf/solver/*.yaml`."""
