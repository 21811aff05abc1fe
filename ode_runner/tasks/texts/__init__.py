"""Sequences of tokens: to be generated, or mapped to another sequence."""
