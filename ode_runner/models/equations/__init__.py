"""Models that are given as equations: known, with unknown coefficients, with events, with noise."""
