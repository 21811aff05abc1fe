"""Noise as a reproducible function of a seed and a key: Brownian paths, and the random numbers they are made of."""

from ode_runner.noise.brownian_path import BrownianPath, Calculus, Increment, Noise, NoiseKind

__all__ = ["BrownianPath", "Calculus", "Increment", "Noise", "NoiseKind"]
