"""A field at times that differ from sample to sample."""

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import CountedField, VectorField, name_of
from ode_runner.types import State, Time

LEAST = 16  # rows of a call, made up by copies: for fewer, matrix products take other kernels and round otherwise


class MappedField:
    """f(t_i, y_i) for every sample i, in one call: torch.vmap makes a batch of one of each.

    One evaluation in the ledger, as for a batch at a common time. The field must be one that torch.func can map over,
    and treat samples independently.
    """

    def __init__(self, field: VectorField) -> None:
        self.field = field
        self.mapped = torch.vmap(self._alone)
        self.observer = field.observer if isinstance(field, CountedField) else None

    def __call__(self, ts: Tensor, y: State) -> State:
        """Derivatives at `ts` (batch,), in the shape of `y`.

        Raises:
            IncompatibleChoice: the field cannot be mapped.
        """
        rows, missing = len(y), LEAST - len(y)
        if missing > 0:
            ts = torch.cat([ts, ts[-1:].expand(missing)])
            y = torch.cat([y, y[-1:].expand(missing, *y.shape[1:])])
        try:
            return self._all(ts, y)[:rows]
        except (RuntimeError, TypeError, ValueError):
            self._demand_mappable(ts[:1], y[:1])
            raise  # out of memory, say

    def _demand_mappable(self, t: Tensor, y: State) -> None:
        """Raises IncompatibleChoice if one sample can be evaluated but not mapped; a field that fails says why."""
        self.field(t[0], y)
        try:
            self.mapped(t, y)
        except (RuntimeError, TypeError, ValueError) as error:
            cause = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
            raise IncompatibleChoice(
                "solver.per_sample=true evaluates the field at each sample's own time by torch.vmap, which "
                f"{name_of(self.field)} does not allow ({cause}). Use solver.per_sample=false, or write the field in "
                "tensor operations alone."
            ) from error

    def _all(self, ts: Tensor, y: State) -> State:
        """Under the eyes of an observer, who could see nothing from within the map."""
        return self.mapped(ts, y) if self.observer is None else self.observer.evaluate(self.mapped, ts, y)

    def _alone(self, t: Time, y: Tensor) -> Tensor:
        return self.field(t, y[None])[0]
