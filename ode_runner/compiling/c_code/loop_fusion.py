"""Fuses elementwise operations on large tensors into one loop, if nothing else reads the intermediate results.

The time of such loops is that of reading and writing beyond the first-level cache. With fusion, a training step of a
network 64-256-64 with batch 512 takes 0.92 times as long; on states of 40 numbers it would take 1.03 times as long.
"""

from collections import Counter

from torch import Tensor

from ode_runner.compiling.c_code.elementwise import is_elementwise
from ode_runner.compiling.c_code.recorder import Inlined, Operation, Recording, storage_of

SMALLEST = 4_096  # elements; with fewer, all arrays of a loop fit into the first-level cache
MOST_READ = 12  # arrays in a loop: with more, processors run out of registers for their addresses


def with_fused_loops(recording: Recording) -> Recording:
    """A recording with some operations inlined in others; results are bitwise the same."""
    written = Counter(storage_of(operation.result) for operation in recording.operations)
    read = Counter(storage_of(x) for operation in recording.operations for x in operation.reads())
    kept = set(map(storage_of, recording.outputs))
    waiting: dict[int, Operation] = {}  # by the storage that they write: operations that may be inlined in its reader
    operations: list[Operation] = []
    for operation in recording.operations:
        if is_elementwise(operation) and operation.result.numel() >= SMALLEST:
            operation = _taking_in(operation, waiting)
            result = storage_of(operation.result)
            stays = all(written[storage_of(x)] <= 1 for x in [operation.result, *operation.reads()])
            if stays and read[result] == 1 and result not in kept and operation.result.is_floating_point():
                waiting[result] = operation
        operations.append(operation)
    inside = {id(x.operation) for operation in operations for x in operation.arguments if isinstance(x, Inlined)}
    return recording._replace(operations=[operation for operation in operations if id(operation) not in inside])


def _taking_in(operation: Operation, waiting: dict[int, Operation]) -> Operation:
    """The operation, with waiting operations inlined as arguments if their results have its own shape."""
    for place, x in enumerate(operation.arguments):
        inner = waiting.get(storage_of(x)) if isinstance(x, Tensor) else None
        if inner is None or not _same(x, inner.result) or x.shape != operation.result.shape:
            continue
        arguments = [*operation.arguments[:place], Inlined(inner), *operation.arguments[place + 1 :]]
        larger = operation._replace(arguments=arguments)
        if len(larger.reads()) <= MOST_READ:
            operation = larger
    return operation


def _same(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors of one storage are the same elements in the same order."""
    return (x.shape, x.stride(), x.storage_offset()) == (y.shape, y.stride(), y.storage_offset())
