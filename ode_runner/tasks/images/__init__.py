"""Images: to be classified, given a density, or generated."""
