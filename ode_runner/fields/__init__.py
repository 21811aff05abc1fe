"""Kinds of field with more structure than a derivative, and wrappers between a field and its solver.

The wrapper is in `counted_field`: it counts each call in the `ledger`, shows it to an `observer`, and holds the
`driving_noise` of a stochastic equation. The basic kinds of field are in `ode_runner.field`.
"""
