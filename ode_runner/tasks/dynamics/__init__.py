"""Tasks with known equations, to be learned or solved: trajectories, events, noise and jumps."""
