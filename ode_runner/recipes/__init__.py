"""`make recipes`: experiments from the literature, run again and compared with what was published. No torch here."""
