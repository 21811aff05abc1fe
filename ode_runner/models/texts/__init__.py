"""Models of texts: diffusion over tokens, and baselines."""
