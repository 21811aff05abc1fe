"""Numerical methods: orders, stability, steps, costs."""
