"""The operations of a graph on a simulated GPU."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.gpu.simulated_gpu.tensors import Memory, storage


class Operation(NamedTuple):
    """One of a graph."""

    func: Any
    args: Any
    kwargs: Any
    results: list[Tensor]  # written anew; none where it writes into its inputs


class Recording:
    """Operations on what stands for tensors of the GPU; what they read from elsewhere is watched, and not kept."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._outside: dict[int, tuple[weakref.ref[Memory], str]] = {}
        self._own: dict[int, Memory] = {}  # the graph's pool

    def note(self, func: Any, args: Any, kwargs: Any, found: Any, memories: list[Memory]) -> None:
        """Add an operation.

        Args:
            func, args, kwargs, found: with tensors of the CPU in the place of those of the GPU.
            memories: of the tensors among its arguments.
        """
        for memory in memories:
            if id(memory) not in self._own:
                self._outside.setdefault(id(memory), (weakref.ref(memory), str(func)))
        given = {storage(x) for x in _tensors((args, kwargs))}
        made = _tensors(found)
        new = [x for x in made if storage(x) not in given]
        for x in new:
            memory = Memory.of(x)
            self._own[id(memory)] = memory
        if not new and not _writes(func):  # a view, which stays what it is
            return
        assert not new or len(new) == len(made), f"{func} returns an argument beside other tensors"
        args, kwargs = pytree.tree_map(_as_now, (args, kwargs))
        self._operations.append(Operation(func, args, kwargs, [x.detach() for x in new]))

    def play(self, computed: Callable[[Any, Any, Any], Any]) -> None:
        """Do it all again.

        Raises:
            AssertionError: something that is read has been freed, and may be another's by now.
        """
        for memory, func in self._outside.values():
            if memory() is None:
                raise AssertionError(f"a graph reads or writes memory that has been freed, in {func}")
        for func, args, kwargs, results in self._operations:
            again = computed(func, args, kwargs)
            if results:
                for old, new in zip(results, _tensors(again), strict=True):
                    old.copy_(new)


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(tree) if isinstance(x, Tensor)]


def _as_now(x: Any) -> Any:
    """Single numbers of the CPU are part of a graph."""
    is_number = isinstance(x, Tensor) and x.dim() == 0 and storage(x) not in Memory.by_storage
    return x.clone() if is_number else x


def _writes(func: Any) -> bool:
    schema = getattr(func, "_schema", None)
    return schema is not None and schema.is_mutable and torch.Tag.inplace_view not in func.tags
