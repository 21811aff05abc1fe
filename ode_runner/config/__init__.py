"""The command line and the configuration: parsing, checks, messages, identity of a run."""
