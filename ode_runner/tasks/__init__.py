"""Tasks: data and the question asked of it. One module per task, chosen by `conf/task/*.yaml`.

`base` says what a task is: batches of its splits, a loss, metrics and pictures. `half_moons` is the shortest one.
What kinds of task share is in a module of its own: `classification`, `images`, `trajectories`, `stochastic_paths`,
`density`, `series`, `token_task`. A task knows no model, no network and no solver.
"""
