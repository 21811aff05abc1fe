"""Traces a function of tensors into the PyTorch operations that it consists of."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ode_runner.compiling.c_code.decompositions import DECOMPOSITIONS
from ode_runner.errors import CannotCompile
from ode_runner.types import holds_whole_numbers

READS_A_VALUE = "the field reads the value of a tensor, to decide by it or to calculate with it in Python"
OTHER_TENSOR = (
    "the field uses a tensor that is none of its parameters or buffers and is not given to it: register it by "
    "register_buffer, or pass it in given"
)
DRAWS = "the field draws random numbers"


@final
@dataclass(frozen=True)
class Inlined:
    """Replaces a tensor argument by the operation that computes it, if nothing else reads its result."""

    operation: "Operation"


class Operation(NamedTuple):
    """A call that computes something. Views are not operations, because they share memory."""

    target: OpOverload[..., Any]
    arguments: Sequence[Any]
    options: Mapping[str, Any]
    result: Tensor
    number: int = 0  # of the result, if the call has several

    def reads(self) -> list[Tensor]:
        """The tensors among its arguments, including those of inlined operations."""
        found: list[Tensor] = []
        for x in tree_leaves((self.arguments, self.options)):
            if isinstance(x, Inlined):
                found += x.operation.reads()
            elif isinstance(x, Tensor):
                found.append(x)
        return found


@final
class Recording(NamedTuple):
    """The operations in order. The storage, offset and strides of a tensor say where its elements are."""

    inputs: Sequence[Tensor]
    operations: Sequence[Operation]
    outputs: Sequence[Tensor]


def record(
    function: Callable[..., Sequence[Tensor]],
    examples: Sequence[Tensor],
    *,
    whole: Collection[OpOverload[..., Any]] | None = None,
) -> Recording:
    """Trace `function` with tensors like the examples.

    Args:
        function: the function.
        examples: its inputs.
        whole: operations that are recorded as they are; others are decomposed into these as far as PyTorch knows how.
            None: nothing is decomposed.

    Raises:
        CannotCompile: it is not a fixed sequence of tensor operations on its inputs.
    """
    inputs = [example.clone() for example in examples]
    with sdpa_kernel(SDPBackend.MATH), _Recorder(inputs, whole) as recorder:  # attention by operations that have code
        outputs = list(function(*inputs))
    return Recording(inputs, recorder.needed(outputs), outputs)


class _Recorder(TorchDispatchMode):
    """Records operations. Keeps every tensor alive, so that no memory is reused."""

    def __init__(self, inputs: Sequence[Tensor], whole: Collection[OpOverload[..., Any]] | None) -> None:
        super().__init__()
        self.whole = whole
        self.operations: list[Operation] = []
        self.given = {storage_of(x) for x in inputs}
        self.known = dict.fromkeys(self.given)
        self._open: list[OpOverload[..., Any]] = []  # operations that are being decomposed

    def __torch_dispatch__(
        self, func: OpOverload[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        if func is torch.ops.aten._local_scalar_dense.default:
            raise CannotCompile(READS_A_VALUE)
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise CannotCompile(DRAWS)
        if torch.Tag.inplace_view in func.tags:  # such as squeeze_, by which a vector times a matrix ends
            self._keep_shape(args[0])
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.lift_fresh.default:  # ends torch.tensor(...)
            self._add_constant(found)
            return found
        self._admit((args, kwargs))
        results = {number: x for number, x in enumerate(tree_leaves(found)) if isinstance(x, Tensor)}
        if self._is_to_be_decomposed(func, results.values()):
            parts = self._decomposed(func, args, kwargs or {})
            if parts is not None:
                return parts
        for number, result in results.items():
            self._add(Operation(func, args, kwargs or {}, result, number))
        return found

    def _keep_shape(self, x: Tensor) -> None:
        """Replace a tensor whose shape is about to change, in the operations so far, by another one on its memory."""
        before = x.detach()
        self.operations[:] = [
            Operation(*tree_map(lambda one: before if one is x else one, tuple(operation)))
            for operation in self.operations
        ]

    def _add(self, operation: Operation) -> None:
        func, storage = operation.target, storage_of(operation.result)
        if torch.Tag.inplace_view in func.tags:  # changes the shape alone
            return
        if func._schema.is_mutable and storage in self.given:
            raise CannotCompile(f"the field writes into what it is given, or into its parameters or buffers, by {func}")
        if func._schema.is_mutable or storage not in self.known:
            self.operations.append(operation)
        self.known[storage] = None

    def _admit(self, arguments: Any) -> None:
        """Add other tensors to the constants if they hold whole numbers, as indices do; see `PythonValues`."""
        for x in tree_leaves(arguments):
            if isinstance(x, Tensor) and storage_of(x) not in self.known:
                if not holds_whole_numbers(x) or x.device.type != "cpu":
                    raise CannotCompile(OTHER_TENSOR)
                whole = x.new_empty(0).set_(x.untyped_storage())  # of which x may be a view, and others may follow
                self._add_constant(whole)

    def _add_constant(self, made: Tensor) -> None:
        """A tensor with known elements is an operation whose arguments these are."""
        self._add(Operation(torch.ops.aten.lift_fresh.default, [made.flatten().tolist()], {}, made))

    def _is_to_be_decomposed(self, func: OpOverload[..., Any], results: Iterable[Tensor]) -> bool:
        """Whether an operation is not to be recorded as it is. Views, which are not recorded, and writes are kept.

        So are the parts of an operation's decomposition that are this operation again, of which there would be no end.
        """
        if self.whole is None or func in self.whole or func._schema.is_mutable or func in self._open:
            return False
        return any(storage_of(x) not in self.known for x in results)

    def _decomposed(self, func: OpOverload[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operation, recorded as several simpler ones; None if PyTorch does not know how."""
        of_prims = getattr(func, "impl_aten", None)
        parts = DECOMPOSITIONS.get(func) or of_prims or decomposition_table.get(func, func.decompose)
        count, known = len(self.operations), dict(self.known)
        self._open.append(func)
        try:
            with self:
                found = parts(*args, **kwargs)
            return None if found is NotImplemented else found
        except CannotCompile:
            raise
        except Exception:  # what a decomposition refuses has no common type; the operation is recorded as it is
            del self.operations[count:]
            self.known = known
            return None
        finally:
            self._open.pop()

    def needed(self, outputs: Sequence[Tensor]) -> list[Operation]:
        """The operations on which the outputs depend."""
        wanted, kept = {storage_of(y) for y in outputs}, []
        for operation in reversed(self.operations):
            if storage_of(operation.result) in wanted:
                wanted.update(map(storage_of, operation.reads()))
                kept.append(operation)
        return kept[::-1]


def storage_of(x: Tensor) -> int:
    """A number that is equal for tensors that share memory, for as long as one of them lives."""
    return x.untyped_storage()._cdata
