"""Commands that train nothing: evaluate, predict and replay a run, audit gradients."""
