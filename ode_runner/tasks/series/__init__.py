"""Tasks with series of observations, generated or read from a file, to be classified or forecast."""
