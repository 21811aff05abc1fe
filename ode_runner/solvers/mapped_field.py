"""Evaluation of a field at a different time for each sample."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.devices.random_state import RandomState
from ode_runner.devices.side_effects import without_side_effects
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField, name_of
from ode_runner.solvers.packed_field import PackedField
from ode_runner.types import State, Time

LEAST = 16  # rows per call, padded by copies: with fewer, matrix products use other kernels and round differently


class MappedField:
    """f(t_i, y_i, *given_i) for every sample i, in one call, which is one evaluation in the ledger.

    A field that declares `batched_time` is called with t of shape (batch,). Any other field is mapped over batches of
    one by torch.vmap. This halves the speed of a small field, and the field must support torch.func. Either way samples
    must not interact. `given` are the tensors given to the field, one row per sample; by default the field's own.
    """

    def __init__(self, field: VectorField, given: Sequence[Tensor] | None = None) -> None:
        counted = field if isinstance(field, CountedField) else None
        self.field = field
        self.declared = isinstance(field, VectorField) and field.batched_time  # a plain function is allowed
        self.given: Sequence[Tensor] = [*given] if given is not None else counted.arguments() if counted else []
        self.mapped = torch.vmap(self._alone)
        self.observer = counted.observer if counted else None

    def of(self, rows: Tensor) -> "MappedField":
        """The field for some rows of the given tensors, in their order."""
        return MappedField(self.field, [z[rows.to(z.device)] for z in self.given]) if self.given else self

    def __call__(self, ts: Tensor, y: State) -> State:
        """Derivatives at `ts` (batch,), in the shape of `y`.

        Raises:
            IncompatibleChoice: the field cannot be mapped.
        """
        if len(y) >= LEAST:
            return self._all(ts, y, self.given)
        ts, filled, *given = (_filled(part, LEAST - len(y)) for part in (ts, y, *self.given))
        return self._all(ts, filled, given)[: len(y)]

    def check_declared(self, ts: Tensor, y: State) -> None:
        """For a field with `batched_time`: compare a call at two times `ts` (2,) with two calls at one time each.

        This happens once per field and is not counted in the ledger. The two rows are those of `y` with the largest
        elements, in which a difference shows best.

        Raises:
            IncompatibleChoice: the field declares `batched_time`, but gives other derivatives for t of shape (batch,).
        """
        field, given = self.field, self.given
        while isinstance(field, CountedField):
            y = field.state(y) if isinstance(field, PackedField) else y
            given = field.of_field(given)
            field = field.field
        if not self.declared or field.batched_time_checked or len(y) < 2:
            return
        rows = y.flatten(1).abs().nan_to_num().amax(dim=1).topk(2).indices
        two = [part[rows.to(part.device)] for part in (y, *given)]
        if not _agrees(field, ts, two):
            raise IncompatibleChoice(
                f"{name_of(field)} declares batched_time, and with a time for each sample, t of shape (batch,), gives "
                "other derivatives than with one time after the other. Shape t by "
                "ode_runner.field.broadcast_time(t, y), or declare batched_time = False."
            )
        field.batched_time_checked = True

    def _check_mappable(self, t: Tensor, y: State, given: Sequence[Tensor]) -> None:
        """Raises IncompatibleChoice if one sample can be evaluated but not mapped; else the field's own error."""
        self.field(t[0], y, *given)
        try:
            self.mapped(t, y, *given)
        except (RuntimeError, TypeError, ValueError) as error:
            cause = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
            raise IncompatibleChoice(
                "the field is evaluated at each sample's own time by torch.vmap, which "
                f"{name_of(self.field)} does not allow ({cause}). Write the field in tensor operations alone, or for t "
                "of shape (batch,) with batched_time = True. A solve asks for one time if solver.per_sample=false."
            ) from error

    def _all(self, ts: Tensor, y: State, given: Sequence[Tensor]) -> State:
        if self.declared:
            return self.field(ts, y, *given)
        try:
            return self._mapped(ts, y, given)
        except (RuntimeError, TypeError, ValueError):
            self._check_mappable(ts[:1], y[:1], [z[:1] for z in given])
            raise  # another error, such as out of memory

    def _mapped(self, ts: Tensor, y: State, given: Sequence[Tensor]) -> State:
        """The mapped call; an observer is called around it, because it would see nothing inside torch.vmap."""
        if self.observer is None:
            return self.mapped(ts, y, *given)
        return self.observer.evaluate(lambda t, y: self.mapped(t, y, *given), ts, y)

    def _alone(self, t: Time, y: Tensor, *given: Tensor) -> Tensor:
        return self.field(t, y[None], *(z[None] for z in given))[0]


def call_mapped(field: VectorField, t: Tensor, y: State, *given: Tensor) -> State:
    """field(t, y, *given), with a time (batch,) for each sample."""
    return MappedField(field, given)(t, y)


@torch.no_grad()
def _agrees(field: VectorField, ts: Tensor, arguments: Sequence[Tensor]) -> bool:
    """Whether a call at two times agrees with two calls; buffers and random state are restored.

    For a field that draws random numbers, whose calls never agree, the answer is True.
    """
    device = arguments[0].device
    with without_side_effects(field, device) as (random, _):
        apart = torch.cat([field(ts[i], *(part[i : i + 1] for part in arguments)) for i in range(2)])
        if not random.same_as(RandomState.now(device)):
            return True
        try:
            together = field(*(_filled(part, LEAST - 2) for part in (ts, *arguments)))
        except (RuntimeError, IndexError, TypeError, ValueError):  # incompatible shapes
            return False
    rounding = torch.finfo(apart.dtype).eps ** 0.5
    scale = float(apart.abs().nan_to_num(posinf=0).max())
    return together.shape[1:] == apart.shape[1:] and torch.allclose(
        together[:2], apart, rtol=rounding, atol=rounding * scale, equal_nan=True
    )


def _filled(rows: Tensor, missing: int) -> Tensor:
    """The rows, followed by `missing` copies of the last one."""
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
