"""The words of the command line and of the configuration: parsing, checks, messages, identity."""
