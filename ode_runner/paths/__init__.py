"""Gaussian paths from data to noise, and what networks may predict along them."""
