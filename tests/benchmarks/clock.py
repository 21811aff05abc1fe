"""Seconds of the processor that a step takes."""

import time
from collections.abc import Callable


def timed(step: Callable[[], None]) -> float:
    """Seconds of CPU time of this process: other processes on the same cores do not count."""
    begun = time.process_time()
    step()
    return time.process_time() - begun
