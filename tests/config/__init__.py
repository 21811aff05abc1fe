"""The yaml files, how they are read, and the identity of a run that they describe."""
