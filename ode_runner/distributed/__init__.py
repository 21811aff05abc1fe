"""One run over several processes: data parallelism, on this machine or under torchrun."""
