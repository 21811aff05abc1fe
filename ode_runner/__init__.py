"""Experiments with neural differential equations: task x model x solver x gradient mode."""

__version__ = "0.2.0.dev0"
