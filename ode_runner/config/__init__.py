"""The command line and the configuration: parsing, checks, messages, identity of a run.

`arguments` parses a command line without Hydra, `help` prints the choices, and `completion` answers TAB. `overrides`,
`unused_words` and `trust` refuse what Hydra would accept; `messages` rewords Hydra's errors. `identity` has the
fingerprint of a run. Most modules load neither Hydra nor torch, so that help and completion answer at once.
"""
