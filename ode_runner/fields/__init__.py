"""Kinds of field with more structure than a derivative, and wrappers between a field and its solver.

Solvers evaluate a field through `counted_field`, which enters each call in the `ledger`, lets an `observer` see it, and
holds the `driving_noise` of a stochastic equation. The plain kinds are in `ode_runner.field`.
"""
