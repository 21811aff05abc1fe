"""Known equations: their trajectories, events, noise and jumps, to be learned or solved."""
