"""The layers a model is made of: one module per network, chosen by `conf/network/*.yaml`."""
