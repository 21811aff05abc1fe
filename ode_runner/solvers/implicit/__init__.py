"""Implicit methods, for stiff problems, and how the equations of their stages are solved."""
