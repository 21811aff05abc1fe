"""The training loop, its schedules, and a run from lock to record."""
