"""Models: depth, densities and samples. One module per model, in a folder of its kind, chosen by `conf/model/*.yaml`.

`base` says what a model is: it encodes inputs, lets a state evolve by `integrate`, and reads outputs from states.
`depth/odenet` is the shortest one. Models with a log density build on `density`, and `generator` draws samples. What
only models of one kind share is in their folder, such as `generators/path_model`, `texts/text_model` and
`series/series_model`. A model knows no solver and no gradient mode.
"""
