"""`ode-report`: tables, pictures and comparisons made from records. Never imports torch or Hydra."""
