"""The scaling of table columns for density models, and its log determinant."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnScales:
    """Scales columns as (g(x) - mean) / std; g is the logarithm, the logit within bounds, or the identity. In float64.

    A g is computed for all columns; where it does not apply, its argument is replaced by a safe value, since a NaN
    there would also make derivatives NaN.
    """

    mean: Tensor  # (columns,), mean of g(x) in the training rows
    std: Tensor
    log: Tensor  # (columns,), bool
    bounded: Tensor  # (columns,), bool: within `low` and `high`, which are 0 and 1 for the others
    low: Tensor
    high: Tensor

    @classmethod
    def measured(cls, data: Tensor, *, log: Tensor, bounded: Tensor, low: Tensor, high: Tensor) -> "ColumnScales":
        """The scales of training rows (rows, columns), float64."""
        kinds = {"log": log, "bounded": bounded, "low": low, "high": high}
        seen = cls(mean=torch.zeros_like(low), std=torch.ones_like(low), **kinds).inputs(data)
        return cls(mean=seen.mean(dim=0), std=seen.std(dim=0, correction=0), **kinds)

    def inputs(self, data: Tensor) -> Tensor:
        """Rows (..., columns) in the file's units as model inputs, in float64."""
        x = data.double()
        share = torch.where(self.bounded, (x - self.low) / (self.high - self.low), 0.5)
        positive = torch.where(self.log, x, 1.0)
        seen = torch.where(self.log, positive.log(), torch.where(self.bounded, share.logit(), x))
        return (seen - self.mean) / self.std

    def data(self, inputs: Tensor) -> Tensor:
        """The inverse of `inputs`."""
        seen = inputs.double() * self.std + self.mean
        within = self.low + (self.high - self.low) * seen.sigmoid()
        return torch.where(self.log, self._logarithms(seen).exp(), torch.where(self.bounded, within, seen))

    def log_determinant(self, inputs: Tensor) -> Tensor:
        """log |d inputs / d data| for each row, (batch,), to be added to a log density of inputs."""
        seen = inputs.double() * self.std + self.mean
        logit = -(self.high - self.low).log() - logsigmoid(seen) - logsigmoid(-seen)
        slope = torch.where(self.bounded, logit, 0.0) - self._logarithms(seen)
        return (slope - self.std.log()).sum(dim=-1).to(inputs)

    def state_dict(self) -> dict[str, Tensor]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "ColumnScales":
        return cls(**state)

    def to(self, device: torch.device) -> "ColumnScales":
        return ColumnScales(**{name: x.to(device) for name, x in self.state_dict().items()})

    def _logarithms(self, seen: Tensor) -> Tensor:
        """The logarithms of the columns that have g = log; 0 for the others."""
        return torch.where(self.log, seen, 0.0)
