"""What is looked at between epochs besides the loss, chosen by `conf/diagnostics/*.yaml`."""
