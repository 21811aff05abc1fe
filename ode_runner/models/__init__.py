"""How depth is made from a network's pieces: one module per model, chosen by `conf/model/*.yaml`."""
