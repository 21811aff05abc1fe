"""Tasks: data, loss and metrics. Each task is one module, in a folder of its kind, chosen by `conf/task/*.yaml`.

`base` defines the interface of a task: batches of its splits, a loss, metrics and pictures. `points/half_moons` is the
shortest example. Code that tasks of several kinds share is here, such as `classification`; code of a single kind is in
its folder, such as `dynamics/trajectories` and `texts/token_task`. A task knows no model, network or solver.
"""
