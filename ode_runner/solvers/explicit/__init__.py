"""Explicit methods: one-step and multistep, embedded pairs with step size control, and reversible methods."""
