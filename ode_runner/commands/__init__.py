"""Commands that train nothing: evaluate, predict and replay a run, audit gradients, fit hypersolvers.

`dispatch` finds which command is typed and runs it; each command has a module with its name. `trained_run` opens a
completed run, `original_command` finds the overrides that made it, and `run_folders` says where a command writes.
"""
