"""Distributions of points whose density is learned."""
