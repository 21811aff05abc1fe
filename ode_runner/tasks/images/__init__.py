"""Tasks with images, to be classified, given a density, or generated."""
