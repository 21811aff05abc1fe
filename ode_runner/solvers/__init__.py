"""Numerical methods: one module per method, in a folder of its kind, chosen by `conf/solver/*.yaml`.

The modules here are what methods are made of. `base` says what a solver is. `explicit/rk4` is a method on a fixed grid:
a tableau, stepped by `runge_kutta` and `one_step`. `explicit/dopri5` is a pair with step size control, whose loop is in
`embedded`; `step_control` chooses the next size. What only methods of one kind share is in their folder, such as
`implicit/newton` and `samplers/sampler`. Solvers know fields and problems, and neither models nor gradient modes.
"""
