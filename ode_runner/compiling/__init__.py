"""Solves as compiled code on the CPU and as CUDA graphs on a GPU, for fields that cost more to call than to compute.

On the CPU, `c_code` makes machine code of the functions of a step; `steps` and `stepper` make steppers of them. Whole
solves are made by `whole_solves` where they are adaptive, by `whole_runs` on a fixed grid, by `each_solves` where
samples have steps of their own, and by `implicit_solves`. On a GPU, `cuda_graph` records a function, `captured_solve`
the steps of a solve that is differentiated, `recorded_solves` those that nobody differentiates. `solves` says which
problem has been compiled. Every result equals that of the eager solver to rounding.
"""
