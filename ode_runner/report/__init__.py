"""`ode-report`: tables, pictures and comparisons made from records. Never imports torch or Hydra.

`cli` is the command. `runs` finds and reads run folders, `rows` groups the seeds of a configuration, `table` makes
cells of rows, and `formats` and `screen` write them. `pictures` draws, `page` writes one HTML page. `diff`,
`verify`, `prune` and `sources` (`ode-report cite`) are subcommands.
"""
