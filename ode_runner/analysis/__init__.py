"""How good a gradient is and what a learned flow is like: audits and diagnostics."""
