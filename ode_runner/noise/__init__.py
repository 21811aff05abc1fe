"""Noise as a function of a seed and of what it is drawn for: Brownian paths, and the numbers that they are made of."""
