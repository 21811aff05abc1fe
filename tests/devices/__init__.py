"""What belongs to a device: precision, transfers, waits."""
