"""What a run writes and what is read back: records, checkpoints, logs, the screen.

Torch only in the checkpoint, the environment and, lazily, the logger.
"""
