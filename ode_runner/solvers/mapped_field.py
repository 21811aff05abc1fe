"""A field at times that differ from sample to sample."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.counted_field import CountedField, name_of
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.types import State, Time

LEAST = 16  # rows of a call, made up by copies: for fewer, matrix products take other kernels and round otherwise


class MappedField:
    """f(t_i, y_i, *given_i) for every sample i, in one call: torch.vmap makes a batch of one of each.

    One evaluation in the ledger, as for a batch at a common time. The field must be one that torch.func can map over,
    and treat samples independently. `given` are the rows of what the field takes besides; by default all of them.
    """

    def __init__(self, field: VectorField, given: Sequence[Tensor] | None = None) -> None:
        counted = field if isinstance(field, CountedField) else None
        self.field = field
        self.given = [*given] if given is not None else counted.arguments() if counted else []
        self.mapped = torch.vmap(self._alone)
        self.observer = counted.observer if counted else None

    def of(self, rows: Tensor) -> "MappedField":
        """For these rows of what is given, in their order."""
        return MappedField(self.field, [z[rows.to(z.device)] for z in self.given]) if self.given else self

    def __call__(self, ts: Tensor, y: State) -> State:
        """Derivatives at `ts` (batch,), in the shape of `y`.

        Raises:
            IncompatibleChoice: the field cannot be mapped.
        """
        rows, missing = len(y), LEAST - len(y)
        ts, y, *given = (_filled(part, missing) for part in (ts, y, *self.given))
        try:
            return self._all(ts, y, given)[:rows]
        except (RuntimeError, TypeError, ValueError):
            self._demand_mappable(ts[:1], y[:1], [z[:1] for z in given])
            raise  # out of memory, say

    def _demand_mappable(self, t: Tensor, y: State, given: Sequence[Tensor]) -> None:
        """Raises IncompatibleChoice if one sample can be evaluated but not mapped; a field that fails says why."""
        self.field(t[0], y, *given)
        try:
            self.mapped(t, y, *given)
        except (RuntimeError, TypeError, ValueError) as error:
            cause = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
            raise IncompatibleChoice(
                "solver.per_sample=true evaluates the field at each sample's own time by torch.vmap, which "
                f"{name_of(self.field)} does not allow ({cause}). Use solver.per_sample=false, or write the field in "
                "tensor operations alone."
            ) from error

    def _all(self, ts: Tensor, y: State, given: Sequence[Tensor]) -> State:
        """Under the eyes of an observer, who could see nothing from within the map."""
        if self.observer is None:
            return self.mapped(ts, y, *given)
        return self.observer.evaluate(lambda t, y: self.mapped(t, y, *given), ts, y)

    def _alone(self, t: Time, y: Tensor, *given: Tensor) -> Tensor:
        return self.field(t, y[None], *(z[None] for z in given))[0]


def _filled(rows: Tensor, missing: int) -> Tensor:
    """With copies of the last row in the place of the missing ones."""
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing > 0 else rows
