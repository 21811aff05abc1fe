"""What is to be run wherever there is a GPU: `tests/gpu/check.sh`."""
