"""Gradient modes: one module per mode, chosen by `conf/gradient/*.yaml`.

`base` says what a mode is: it owns the solve and its derivative. `backprop` is the shortest one. Modes that recompute
steps (`checkpoint`, `symplectic`) build on `recomputation`, those that solve the adjoint ODE (`adjoint`, `seminorm`,
`interpolated`) on `continuous`, and all with a derivative of their own on `solve_rule`. `breaks`, `jumps`, `events` and
`time_gradients` compose solves for any mode.
"""
