"""The training loop, its schedules, and a run from lock to record.

`run` is the outermost function: it locks the folder, builds, and turns failures into a status. `train_and_test` is one
session within a run, `trainer` is the loop, and `training_pass` has the only backward pass. `stages`, `averaging`,
`accumulation`, `patience` and `best_weights` are options of the loop. `prepare_compiled`, `captured_pass` and
`planned_pass` make steps faster where that pays.
"""
