"""Numerical methods: one module per method, chosen by `conf/solver/*.yaml`.

`base` says what a solver is. `rk4` is a method on a fixed grid: a tableau, stepped by `runge_kutta` and `one_step`.
`dopri5` is a pair with step size control, whose loop is in `embedded`; `step_control` chooses the next size.
Implicit methods build on `implicit` and `newton`, stochastic ones on `stochastic`, samplers of diffusion models on
`sampler`, and those of tokens on `token_sampler`. Solvers know fields and problems, and neither models nor gradient
modes.
"""
