"""Files that the program itself writes into its checkout; they do not make a commit count as changed."""

from pathlib import Path

RESULTS = Path("experiment", "RESULTS.md")  # in conf/, by `make recipes`
GENERATED = (Path("conf") / RESULTS,)
