"""What is asked of a run once it has ended, from the command line and from Python."""
