"""Models: depth, densities and samples. One module per model, in a folder of its kind, chosen by `conf/model/*.yaml`.

`base` defines models: a model encodes inputs, evolves a state by `integrate`, and reads outputs from states.
`depth/odenet` is the shortest one. Models with a log density use `density`; `generator` draws samples. Code for one
kind of model is in its folder, such as `generators/path_model`, `texts/text_model` and `series/series_model`. Models
import neither solvers nor gradient modes.
"""
