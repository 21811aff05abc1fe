"""Methods of SciPy and torchdiffeq, used like solvers of our own."""
