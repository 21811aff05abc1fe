"""`make recipes`: experiments from the literature, repeated and compared with the published results. No torch here."""
