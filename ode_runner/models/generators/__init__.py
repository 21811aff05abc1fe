"""Models that learn the field of a path from noise to data: flow matching and diffusion."""
