"""Series of observations, made here or read from a file of one's own: to be classified or forecast."""
