"""Series of observations at irregular times, and the tensor of rows in which a model receives them."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Series:
    """A batch of series with the same channels.

    Rows from the length of a series on are padding, whose values are ignored. Times increase from row to row.
    """

    times: Tensor  # (series, rows)
    values: Tensor  # (series, rows, channels), NaN where a channel was not observed
    lengths: Tensor  # (series,), int64, at least 1: number of rows without padding

    @classmethod
    def complete(cls, times: Tensor, values: Tensor) -> Self:
        """Series without padding."""
        return cls(times=times, values=values, lengths=torch.full((len(times),), times.shape[1], device=times.device))

    def rows(self) -> Tensor:
        """(series, rows, channels + 2), float: the values, their time, and 1 (0 for padding)."""
        real = torch.arange(self.times.shape[1], device=self.times.device) < self.lengths[:, None]
        return torch.cat([self.values, self.times[..., None], real[..., None].to(self.values)], dim=-1)

    @classmethod
    def of_rows(cls, rows: Tensor) -> Self:
        """The series from a tensor made by the method `rows`; padding is replaced by the last row of its series."""
        lengths = (rows[..., -1] > 0).sum(dim=1)
        indices = torch.arange(rows.shape[1], device=rows.device).expand(rows.shape[:2])
        indices = torch.minimum(indices, lengths[:, None] - 1)
        held = rows.gather(1, indices[..., None].expand_as(rows))
        return cls(times=held[..., -2], values=held[..., :-2], lengths=lengths)

    @property
    def duration(self) -> float:
        """The longest time from first to last row of a series."""
        last = self.times.gather(1, self.lengths[:, None] - 1)
        return float((last - self.times[:, :1]).max())

    @property
    def observed(self) -> Tensor:
        """(series, rows, channels), bool: which values are observed; False in padding."""
        real = torch.arange(self.times.shape[1], device=self.times.device) < self.lengths[:, None]
        return ~self.values.isnan() & real[..., None]
