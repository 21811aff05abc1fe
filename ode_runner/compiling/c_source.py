"""Recorded functions as functions in C."""

from collections import defaultdict
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.c_loops import TYPES, elementwise
from ode_runner.compiling.c_operations import NoCode, code_of
from ode_runner.compiling.c_products import DECLARATIONS
from ode_runner.compiling.recorder import Recording, storage_of

HEADER = """\
#include <math.h>
#ifdef VECTOR_MATH
#define VECTOR(name) __attribute__((simd("notinbranch"))) double name(double); \\
                     __attribute__((simd("notinbranch"))) float name##f(float);
VECTOR(tanh) VECTOR(exp) VECTOR(log) VECTOR(log1p) VECTOR(sin) VECTOR(cos)
#endif
#include <string.h>
#include <tgmath.h>
"""


def c_source(recordings: Mapping[str, Recording], driver: str = "") -> str:
    """Functions in C by their names, and behind them code that calls them.

    Of `f` that is `piece_f`, a name that no library of the system has. Each takes its inputs and, behind them, its
    outputs, all of which are contiguous. What lies between is in static arrays, so there is one call at a time.

    Raises:
        NoCode: there is no C code for an operation, or for a type.
    """
    functions = [_function(name, recording) for name, recording in recordings.items()]
    return "\n".join([HEADER, DECLARATIONS, *functions, driver])


def _function(name: str, recording: Recording) -> str:
    arrays = _Arrays(recording)
    parameters = [f"const {_type(x)} *restrict {arrays.name(x)}" for x in recording.inputs]
    body = []
    for number, operation in enumerate(recording.operations):
        arrays.begin(operation.result)
        body.append(code_of(operation, arrays.name))
        arrays.end(number)
    for number, y in enumerate(recording.outputs):
        parameters.append(f"{_type(y)} *restrict y{number}")
        body.append(_copied(y, arrays.name(y), f"y{number}"))
    lines = [f"void piece_{name}({', '.join(parameters)}) {{", *arrays.declarations, *body, "}", ""]
    return "\n".join(line for line in lines if line)


def _copied(x: Tensor, source: str, target: str) -> str:
    """All of a tensor, as a contiguous one."""
    y = torch.empty(x.shape, dtype=x.dtype)
    return elementwise(y, [x], lambda one: target if one is y else source, lambda y, x: f"{y} = {x};")


def _type(x: Tensor) -> str:
    if x.dtype not in TYPES:
        raise NoCode(str(x.dtype))
    return TYPES[x.dtype]


@final
class _Arrays:
    """Which array the storage of a tensor is; one that nothing needs any more is given to another."""

    def __init__(self, recording: Recording) -> None:
        self.declarations: list[str] = []
        self._names = {storage_of(x): f"x{number}" for number, x in enumerate(recording.inputs)}
        self._kept = {storage_of(y) for y in recording.outputs} | set(self._names)
        self._ends: dict[int, int] = {}  # the last operation that needs a storage
        for number, operation in enumerate(recording.operations):
            self._ends |= dict.fromkeys(map(storage_of, [*operation.reads(), operation.result]), number)
        self._free: dict[tuple[str, int], list[str]] = defaultdict(list)
        self._sizes: dict[int, tuple[str, int]] = {}

    def name(self, x: Tensor) -> str:
        return self._names[storage_of(x)]

    def begin(self, result: Tensor) -> None:
        """Find an array for what an operation makes."""
        storage = storage_of(result)
        if storage in self._names:
            return
        size = (_type(result), result.untyped_storage().nbytes() // result.element_size())
        free = self._free[size]
        if not free:
            free.append(f"a{len(self.declarations)}")
            self.declarations.append(f"static {size[0]} {free[0]}[{max(size[1], 1)}];")
        self._names[storage], self._sizes[storage] = free.pop(), size

    def end(self, number: int) -> None:
        """Give free what nothing after operation `number` needs."""
        for storage in [one for one, last in self._ends.items() if last == number and one not in self._kept]:
            del self._ends[storage]
            self._free[self._sizes[storage]].append(self._names[storage])
