"""`make recipes`: experiments from the literature, run again and held against what was published. No torch here."""
