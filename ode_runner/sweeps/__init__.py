"""Many cells with one command: which of them have to run, and how they ended."""
