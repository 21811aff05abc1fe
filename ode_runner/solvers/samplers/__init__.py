"""Samplers of diffusion models, which step from noise level to noise level."""
