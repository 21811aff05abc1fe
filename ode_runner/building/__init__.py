"""Parts of `build`: load classes, check options, make objects, and identify a run before it is built.

`instantiate` makes an object of a config node, after checking its class (`group_types`) and options. `run_identity`
makes the record and its fingerprints. The other modules check or build one group each.
"""
