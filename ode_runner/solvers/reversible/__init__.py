"""Methods whose every step can be undone."""
