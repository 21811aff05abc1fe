"""The Python values that compiled code keeps from when it was recorded, and whether they have changed since."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dis import get_instructions
from functools import partial
from itertools import islice
from numbers import Number
from operator import getitem
from types import CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from ode_runner.types import holds_whole_numbers

MOST = 1000  # values that are compared; each takes a tenth of a microsecond, in every solve
LIBRARIES = frozenset({"ode_runner", "torch", *sys.stdlib_module_names})  # whose functions and classes do not change
OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
MISSING = object()
CPU = torch.device("cpu")


class _Place(NamedTuple):
    """Where a value is found: `read(holder, key)`."""

    name: str
    read: Callable[[Any, Any], Any]
    holder: Any
    key: Any

    def value(self) -> object:
        """What is there now."""
        try:
            return self.read(self.holder, self.key)
        except (AttributeError, LookupError, ValueError):  # ValueError: a captured variable that is not assigned
            return MISSING


@final
class PythonValues:
    """Numbers, strings and other objects that modules and functions may read.

    These are attributes, items of lists and dictionaries, captured and global variables, and what these refer to.
    Tensors are among them if they hold whole numbers, such as indices; compiled code reads others anew in every solve,
    or is refused. Values beyond the first thousand are not, nor what objects of PyTorch and of this package hold that
    are no modules, such as ledgers, nor buffers of PyTorch's own layers, such as the counts of batch normalisation.
    """

    def __init__(self, *roots: object) -> None:
        self._values = list(islice(_gathered(roots), MOST))

    def leave_out_changed(self) -> None:
        """Ignore from now on what has changed by now, such as a counter of calls."""
        self._values = [(place, value) for place, value in self._values if _same(place.value(), value)]

    def changed(self) -> str:
        """A clause that says what has changed; "" if nothing has."""
        for place, value in self._values:
            if not _same(now := place.value(), value):
                return _clause(place.name, value, now)
        return ""


def _gathered(roots: Sequence[object]) -> Iterator[tuple[_Place, object]]:
    """The values in `roots` and their places; those that are fewer references away come first."""
    met, due = dict[int, object](), deque((_name_of(root), root) for root in roots)
    while due:
        name, thing = due.popleft()
        if id(thing) in met or _plain(thing):
            continue
        met[id(thing)] = thing  # with the object, lest another one gets its id
        for place in _places(name, thing):
            value = place.value()
            if _may_be_kept(value):
                yield place, _copied(value)
                due.append((place.name, value))


def _may_be_kept(value: object) -> bool:
    """Whether compiled code may keep a value; it reads most tensors anew in every solve."""
    return holds_whole_numbers(value) if isinstance(value, Tensor) else not isinstance(value, ModuleType | type)


def _same(now: object, value: object) -> bool:
    """Whether numbers, strings and the elements of arrays are the same; whether others are the same object."""
    if now is value:
        return True
    if isinstance(now, np.ndarray) and isinstance(value, np.ndarray):
        return now.dtype == value.dtype and now.shape == value.shape and now.tobytes() == value.tobytes()
    if isinstance(now, Tensor) and isinstance(value, Tensor) and now.device == value.device == CPU:
        return now.dtype == value.dtype and torch.equal(now, value)
    return _plain(value) and type(now) is type(value) and bool(now == value)


def _copied(value: object) -> object:
    """A copy of an array or tensor, whose elements may change; on a GPU they are read where they are, in any case."""
    if isinstance(value, Tensor):
        return value.clone() if value.device == CPU else value
    return value.copy() if isinstance(value, np.ndarray) else value


def _plain(value: object) -> bool:
    return isinstance(value, Number | str | bytes | None)


def _places(name: str, thing: object) -> Iterator[_Place]:
    """Where the values are that an object refers to."""
    if isinstance(thing, list | tuple | dict):
        keys = list(thing) if isinstance(thing, dict) else range(len(thing))
        yield from (_Place(f"{name}[{key!r}]", getitem, thing, key) for key in keys)
    elif isinstance(thing, FunctionType):
        yield from [] if _of_library(thing) else _places_in_function(name, thing)
    elif isinstance(thing, MethodType):
        yield from (_Place(name, getattr, thing, key) for key in ("__self__", "__func__"))
    elif isinstance(thing, partial):
        yield _Place(name, getattr, thing, "func")
        yield from (_Place("partial", getattr, thing, key) for key in ("args", "keywords"))
    elif _holds_values(thing):
        name = name if _of_library(type(thing)) else type(thing).__name__
        for held in _attributes(thing):
            yield from (_Place(f"{name}.{key}", getitem, held, key) for key in held if key not in OF_EVERY_MODULE)
        yield from (_Place(f"{name}.{key}", _looked_up, thing, key) for key in _names_in_classes(type(thing)))


def _attributes(thing: object) -> list[Mapping[str, Any]]:
    if not isinstance(thing, nn.Module):
        return [getattr(thing, "__dict__", {})]
    return [vars(thing), thing._modules, {} if _of_library(type(thing)) else thing._buffers]


def _places_in_function(name: str, function: FunctionType) -> Iterator[_Place]:
    """Where its code, defaults and captured variables are, and the global variables that it names."""
    yield from (_Place(name, getattr, function, key) for key in ("__code__", "__defaults__", "__kwdefaults__"))
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield _Place(variable, getattr, cell, "cell_contents")
    scope, code = function.__globals__, [*_with_inner(function.__code__)]
    read = {one.argval for part in code for one in get_instructions(part) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for variable in sorted(filter(scope.__contains__, read)):
        yield _Place(variable, getitem, scope, variable)
        if isinstance(module := scope[variable], ModuleType):
            names, attributes = {name for part in code for name in part.co_names}, vars(module)
            for key in sorted(filter(attributes.__contains__, names)):
                yield _Place(f"{variable}.{key}", getitem, attributes, key)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """Code and that of functions inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _with_inner(inner)


def _names_in_classes(cls: type) -> list[str]:
    """The names of slots and of other values and methods in a class and its bases, which an attribute may hide."""
    own = [vars(base) for base in cls.__mro__ if not _of_library(base)]
    return [key for held in own for key, value in held.items() if not key.startswith("__") and _may_be_read(value)]


def _may_be_read(value: object) -> bool:
    """Whether a field may read this in a class: a slot, a number, a method, a list, an object of one's own."""
    kinds = (FunctionType, MemberDescriptorType, list, tuple, dict)
    wrapper = isinstance(value, type | property | classmethod | staticmethod)
    return _plain(value) or isinstance(value, kinds) or (_holds_values(value) and not wrapper)


def _looked_up(thing: object, key: str) -> object:
    """An attribute as Python finds it, except that a method is the function in the class, which stays the same one."""
    found = getattr(thing, "__dict__", {}).get(key, MISSING)
    found = getattr(type(thing), key) if found is MISSING else found
    return getattr(thing, key) if isinstance(found, MemberDescriptorType) else found


def _holds_values(thing: object) -> bool:
    if isinstance(thing, nn.Module):
        return True
    slotted = any("__slots__" in vars(base) for base in type(thing).__mro__)
    own = slotted or isinstance(getattr(thing, "__dict__", None), dict)
    return own and _package(type(thing)) not in {"ode_runner", "torch"}


def _of_library(thing: type | FunctionType) -> bool:
    return _package(thing) in LIBRARIES


def _package(thing: type | FunctionType) -> str:
    return (thing.__module__ or "").partition(".")[0]


def _name_of(root: object) -> str:
    return getattr(root, "__name__", type(root).__name__)


def _clause(name: str, value: object, now: object) -> str:
    if now is MISSING:
        return f"{name} is not there any more"
    if isinstance(value, np.ndarray | Tensor):
        return f"{name} has changed"
    return f"{name} has changed from {value!r} to {now!r}" if _plain(value) and _plain(now) else f"{name} was replaced"
