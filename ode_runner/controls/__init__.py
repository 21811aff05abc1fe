"""Controls: paths through the rows of a series that drive a field; one module per control, set by `model.control`."""
