"""Explicit methods: one step, several steps, pairs with step size control."""
