"""The experiment (task, model, solver and gradient mode as objects) and what is measured of it."""
