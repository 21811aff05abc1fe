"""Whether the threads that compute an operation on a CPU wait for each other, as they do beside other processes."""

import time

import torch

ROWS = 64  # of a product that is so short that waiting is most of its time
REPETITIONS = 10
MANY_TIMES = 10  # a second thread costs microseconds; to wait for it costs a slice of the scheduler's, 16 ms each


def threads_wait() -> bool:
    """Whether small products take many times as long with torch's number of threads as with one, at this moment."""
    threads = torch.get_num_threads()
    if threads == 1:
        return False
    with_all = _seconds()
    torch.set_num_threads(1)
    try:
        return with_all > MANY_TIMES * _seconds()
    finally:
        torch.set_num_threads(threads)


def _seconds() -> float:
    """The time of a few products, after one that starts the threads."""
    matrix = torch.ones(ROWS, ROWS)
    matrix @ matrix
    start = time.perf_counter()
    for _ in range(REPETITIONS):
        matrix @ matrix
    return time.perf_counter() - start
