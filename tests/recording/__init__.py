"""What a run leaves on disk, and what is made of it after a kill or damage."""
