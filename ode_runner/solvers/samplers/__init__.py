"""Samplers of diffusion models, whose steps go from noise level to noise level."""
