"""Methods for Markov chains in continuous time, including samplers of texts."""
