"""Models driven by a series."""
