"""Sequences of tokens: to be generated, or answered by another sequence."""
