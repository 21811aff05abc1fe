"""What the program itself writes into its own checkout: no change that somebody made to the code."""

from pathlib import Path

RESULTS = Path("experiment", "RESULTS.md")  # in conf/, by `make recipes`
GENERATED = (Path("conf") / RESULTS,)
