"""Fills in missing values, channel by channel."""

import torch
from torch import Tensor

from ode_runner.controls.series import Series


def held(series: Series) -> Tensor:
    """The last value that was observed; 0 before the first observation."""
    before, _ = _neighbours(series)
    return _read(series.values, before)


def interpolated(series: Series) -> Tensor:
    """Linear interpolation in time; the nearest observation before the first and after the last; 0 without any."""
    before, after = _neighbours(series)
    rows = series.times.shape[1]
    early, late = before < 0, after >= rows
    before, after = torch.where(early, after.clamp(max=rows - 1), before), torch.where(late, before, after)
    times = series.times[..., None].expand_as(series.values)
    t0, t1 = _read(times, before), _read(times, after)
    x0, x1 = _read(series.values, before), _read(series.values, after)
    weight = torch.where(after > before, (times - t0) / (t1 - t0).clamp(min=torch.finfo(t0.dtype).tiny), 0.0)
    return torch.where(early & late, 0.0, torch.lerp(x0, x1, weight))


def counts(series: Series) -> Tensor:
    """The number of observations of each channel up to each row, (series, rows, channels)."""
    return series.observed.cumsum(dim=1).to(series.values)


def _neighbours(series: Series) -> tuple[Tensor, Tensor]:
    """For each value, the rows of its channel's last observation so far (-1: none) and of the next (`rows`: none)."""
    there, rows = series.observed, series.times.shape[1]
    numbers = torch.arange(rows, device=there.device)[:, None].expand_as(there)
    before = numbers.masked_fill(~there, -1).cummax(dim=1).values
    after = numbers.masked_fill(~there, rows).flip(1).cummin(dim=1).values.flip(1)
    return before, after


def _read(values: Tensor, rows: Tensor) -> Tensor:
    """The values at `rows`, 0 for rows below 0."""
    return values.gather(1, rows.clamp(min=0)).masked_fill(rows < 0, 0.0)
