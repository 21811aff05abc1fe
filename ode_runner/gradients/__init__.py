"""Gradient modes: one module per mode, chosen by `conf/gradient/*.yaml`.

`base` defines gradient modes: a mode runs the solve and provides its derivative. `backprop` is the shortest one. Modes
that recompute steps (`checkpoint`, `symplectic`) use `recomputation`. Modes that solve the adjoint ODE (`adjoint`,
`seminorm`, `interpolated`) use `continuous`. All modes with a derivative of their own use `solve_rule`. `breaks`,
`jumps`, `events` and `time_gradients` combine several solves, in any mode.
"""
