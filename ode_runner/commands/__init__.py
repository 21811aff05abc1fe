"""Commands that train nothing: evaluate, predict and replay a run, audit gradients.

`dispatch` finds which command is typed and carries it out; each has a module with its name. `trained_run` opens a
completed run, `original_command` finds the overrides that made it, and `run_folders` says where a command writes.
"""
