"""Models that read a series on the way."""
