"""Methods for Markov chains in continuous time, samplers of texts among them."""
