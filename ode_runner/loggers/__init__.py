"""Where the curves of a run go besides metrics.jsonl: one module per logger, chosen by `conf/logger/*.yaml`."""
