"""How good a gradient is, and what it costs: gradient modes against references in double precision."""
