"""Writes recorded functions as functions in C."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.c_code.loop_fusion import with_fused_loops
from ode_runner.compiling.c_code.loops import TYPES, elementwise
from ode_runner.compiling.c_code.operations import NoCode, code_of
from ode_runner.compiling.c_code.products import DECLARATIONS
from ode_runner.compiling.c_code.recorder import Operation, Recording, storage_of

HEADER = """\
#define ARRAY static
#define LOOPS __attribute__((noinline)) static void
#include <math.h>
#ifdef VECTOR_MATH
#define VECTOR(name) __attribute__((simd("notinbranch"))) double name(double); \\
                     __attribute__((simd("notinbranch"))) float name##f(float);
#define OF_TWO(name) __attribute__((simd("notinbranch"))) double name(double, double); \\
                     __attribute__((simd("notinbranch"))) float name##f(float, float);
VECTOR(exp) VECTOR(exp2) VECTOR(expm1) VECTOR(log) VECTOR(log2) VECTOR(log10) VECTOR(log1p) VECTOR(erf) VECTOR(erfc)
VECTOR(sin) VECTOR(cos) VECTOR(tan) VECTOR(asin) VECTOR(acos) VECTOR(atan) OF_TWO(atan2) OF_TWO(hypot) OF_TWO(pow)
VECTOR(sinh) VECTOR(cosh) VECTOR(tanh) VECTOR(asinh) VECTOR(acosh) VECTOR(atanh)
#endif
#include <string.h>
#include <tgmath.h>
"""


def c_source(recordings: Mapping[str, Recording], driver: str = "", *, header: str = HEADER + DECLARATIONS) -> str:
    """The C code of functions, followed by code that calls them.

    Function `f` is named `piece_f`, which no system library uses. Its parameters are its inputs followed by its
    outputs, all contiguous. Intermediate results are in static arrays, so that only one call at a time is possible.
    The header decides that: it defines ARRAY, the storage class of arrays, and LOOPS, the prefix of functions of loops.

    Raises:
        NoCode: there is no C code for an operation, or for a type.
    """
    loops = _Loops()
    functions = [_function(name, recording, loops) for name, recording in recordings.items()]
    return "\n".join([header, *loops.functions(), *functions, driver])


def _function(name: str, recording: Recording, loops: "_Loops") -> str:
    recording = with_fused_loops(recording)
    arrays = _Arrays(recording)
    parameters = [f"const {_type(x)} *restrict {arrays.name(x)}" for x in recording.inputs]
    body = []
    for number, operation in enumerate(recording.operations):
        arrays.begin(operation.result)
        body.append(loops.called(operation, arrays.name))
        arrays.end(number)
    for number, y in enumerate(recording.outputs):
        parameters.append(f"{_type(y)} *restrict y{number}")
        body.append(_copied(y, arrays.name(y), f"y{number}"))
    lines = [f"void piece_{name}({', '.join(parameters)}) {{", *arrays.declarations, *body, "}", ""]
    return "\n".join(line for line in lines if line)


def _copied(x: Tensor, source: str, target: str) -> str:
    """Copy a tensor into a contiguous one."""
    y = torch.empty(x.shape, dtype=x.dtype)
    return elementwise(y, [x], lambda one: target if one is y else source, lambda y, x: f"{y} = {x};")


def _type(x: Tensor) -> str:
    if x.dtype not in TYPES:
        raise NoCode(str(x.dtype))
    return TYPES[x.dtype]


@final
class _Loops:
    """Operations with loops as functions in C; operations that differ only in their arrays share one function.

    The stages of a step repeat the same operations, and a compiler takes more than twice as long for a function of
    twice the length.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # by parameters and code

    def functions(self) -> list[str]:
        return [f"LOOPS {name}{code}" for code, name in self._names.items()]

    def called(self, operation: Operation, name: Callable[[Tensor], str]) -> str:
        """The statements of an operation: a function call if it has loops. `name` is as in `code_of`."""
        types: dict[str, str] = {}  # by array, in the order of the parameters

        def parameter(x: Tensor) -> str:
            types.setdefault(name(x), _type(x))
            return f"p{list(types).index(name(x))}"

        code = code_of(operation, parameter)
        if "for (" not in code:
            return code_of(operation, name)
        read = ("" if array == name(operation.result) else "const " for array in types)
        kinds = enumerate(zip(read, types.values(), strict=True))
        parameters = ", ".join(f"{const}{kind} *restrict p{i}" for i, (const, kind) in kinds)
        function = self._names.setdefault(f"({parameters}) {{ {code} }}", f"loops_{len(self._names)}")
        return f"{function}({', '.join(types)});"


@final
class _Arrays:
    """Assigns arrays to the storages of tensors; an array that is no longer needed is reused."""

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
        """Assign an array to the result of an operation."""
        storage = storage_of(result)
        if storage in self._names:
            return
        size = (_type(result), result.untyped_storage().nbytes() // result.element_size())
        free = self._free[size]
        if not free:
            free.append(f"a{len(self.declarations)}")
            self.declarations.append(f"ARRAY {size[0]} {free[0]}[{max(size[1], 1)}];")
        self._names[storage], self._sizes[storage] = free.pop(), size

    def end(self, number: int) -> None:
        """Free the arrays that no operation after `number` needs."""
        for storage in [one for one, last in self._ends.items() if last == number and one not in self._kept]:
            del self._ends[storage]
            self._free[self._sizes[storage]].append(self._names[storage])
