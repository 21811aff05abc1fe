"""The experiment (task, model, solver and gradient mode as objects) and what is measured of it.

Start with `experiment`. `forward_pass` computes the loss of a batch, `test_split` evaluates, `model_view` is what a
task may ask of a model, `meters` measures time and memory, and `crash_dump` keeps what is needed to repeat a failure.
"""
