"""Tasks: their data, known answers, metrics, and files of one's own."""
