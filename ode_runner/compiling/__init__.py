"""Whole steps as compiled code, for fields so small that calling their operations costs more than what they compute."""
