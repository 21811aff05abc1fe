"""Tasks with sequences of tokens, to be generated, or mapped to another sequence."""
