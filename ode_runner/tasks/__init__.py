"""Data and the question asked of it: one module per task, chosen by `conf/task/*.yaml`."""
