"""`make recipes`: repeats experiments from the literature and compares with the published results. No torch here."""
