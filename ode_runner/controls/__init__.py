"""Paths through the rows of a series, by which a field is driven: one module per control, chosen by `model.control`."""
