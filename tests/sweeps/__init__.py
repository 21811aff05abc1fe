"""Sweeps and searches: every cell once, whatever some of them come to."""
