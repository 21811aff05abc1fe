"""Export of trained models to files for other programs."""
