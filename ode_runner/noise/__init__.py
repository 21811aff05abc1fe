"""Noise as a function of a seed and of what it is drawn for: Brownian paths, and the numbers that they are made of."""

from ode_runner.noise.brownian_path import BrownianPath, Calculus, Increment, Noise, NoiseKind

__all__ = ["BrownianPath", "Calculus", "Increment", "Noise", "NoiseKind"]
