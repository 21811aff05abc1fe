"""Models: how depth is made from a network's layers. One module per model, chosen by `conf/model/*.yaml`.

`base` says what a model is: it encodes inputs, lets a state evolve by `integrate`, and reads outputs from states.
`odenet` is the shortest one. Models with a log density build on `density`, those that learn a Gaussian path on
`path_model`, those of texts on `text_model`, and those driven by a series on `series_model`; `generator` draws samples.
A model knows no solver and no gradient mode.
"""
