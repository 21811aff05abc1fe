"""What a stranger does on the first day, from the clone to the page, with the screen of every step kept."""
