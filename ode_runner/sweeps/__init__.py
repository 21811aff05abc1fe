"""Many cells with one command: which of them have to run, and how they ended.

`sweeper` is Hydra's sweeper for products of values, `search` the one for Optuna. `inspection` finds the state of a cell
(`sweep_cell`), `dispatch` runs cells through a launcher, `progress` prints, and `sweep_plan` is plan=true.
"""
