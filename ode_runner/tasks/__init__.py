"""Tasks: data, loss and metrics. One module per task, in a folder of its kind, chosen by `conf/task/*.yaml`.

`base` says what a task is: batches of its splits, a loss, metrics and pictures. `points/half_moons` is the shortest
one. What tasks of several kinds share is here, such as `classification`; what only those of one kind share is in their
folder, such as `dynamics/trajectories` and `texts/token_task`. A task knows no model, no network and no solver.
"""
