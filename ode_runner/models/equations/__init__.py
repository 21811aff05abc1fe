"""Models that state an equation of dynamics: known, with unknown coefficients, with events, with noise."""
