"""Implicit methods, for stiff problems, and Newton's method for their stage equations."""
