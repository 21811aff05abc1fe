"""Solves as compiled code on the CPU and as CUDA graphs on a GPU, for fields that cost more to call than to compute.

On the CPU, `c_code` compiles the functions of a step to machine code, and `steps` and `stepper` make steppers of them.
Whole solves are compiled by `whole_solves` if they are adaptive, by `whole_runs` on a fixed grid, by `each_solves` if
samples have steps of their own, and by `implicit_solves`. On a GPU, `cuda_graph` records a function, `captured_solve`
the steps of a solve that is differentiated, and `recorded_solves` solves without gradients. `solves` finds the compiled
solve for a problem. Every result equals that of the eager solver up to rounding.
"""
