"""Methods for stochastic equations."""
