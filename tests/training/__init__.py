"""The trainer, what it minimises, and its budgets."""
