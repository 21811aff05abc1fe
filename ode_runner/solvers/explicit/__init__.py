"""Explicit methods: of one step or several, pairs with step size control, and ones whose every step can be undone."""
