"""What a run writes and what is read back: records, checkpoints, logs, the screen.

Only the checkpoint, the environment and (lazily) the logger import torch.
"""
