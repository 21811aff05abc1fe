"""Loggers: where a run's curves are written besides metrics.jsonl. One module each, chosen by `conf/logger/*.yaml`."""
