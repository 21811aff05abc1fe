"""Networks, the layers of a model: one module per network, chosen by `conf/network/*.yaml`."""
