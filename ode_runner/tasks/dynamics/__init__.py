"""Equations that are known: their trajectories, events, noise and jumps, to be learned or solved."""
