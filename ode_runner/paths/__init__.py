"""Gaussian probability paths from data to noise, and the quantities that networks may predict along them."""
