"""What is typed and what is printed: words, flags, refusals, help."""
