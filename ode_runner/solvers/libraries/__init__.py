"""Methods of SciPy and torchdiffeq, in the place of solvers of our own."""
