"""Gradient modes: their derivatives, their memory, their audit."""
