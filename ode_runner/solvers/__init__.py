"""Numerical methods: one module per method, in a folder of its kind, chosen by `conf/solver/*.yaml`.

The modules here are shared by several kinds of method. `base` defines solvers. `explicit/rk4` is a method with fixed
steps: a tableau, stepped by `runge_kutta` and `one_step`. `explicit/dopri5` is an embedded pair with step size control:
the loop is in `embedded`, and `step_control` chooses the next size. Code for one kind of method is in its folder, such
as `implicit/newton` and `samplers/sampler`. Solvers import neither models nor gradient modes.
"""
