"""The scaling of series to the units of a model, and back to those of the file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Statistics of the training rows, float64.

    The model's value of a column is (g(x) - mean) / std, where g is the logarithm or the identity; its time is (t - t0)
    / unit, where t0 is the first time of the series.
    """

    unit: Tensor  # (), unit of time, in that of the file
    mean: Tensor  # (columns,)
    std: Tensor
    log: Tensor  # (columns,), bool: which columns are scaled as logarithms
    log_errors: Tensor  # (columns,), bool: which columns have only their errors in logarithms
    input_mean: Tensor  # (inputs,)
    input_std: Tensor
    weight: Tensor  # (columns,): divisor of errors, in the model's units

    def scaled(self, values: np.ndarray) -> Tensor:
        """Values (..., columns) of the file in the model's units; NaN is kept."""
        x = torch.as_tensor(values, dtype=torch.float64)
        return (torch.where(self.log, x.log(), x) - self.mean) / self.std

    def restored(self, values: Tensor) -> Tensor:
        """The inverse of `scaled`, in float64."""
        x = values.double() * self.std.to(values.device) + self.mean.to(values.device)
        return torch.where(self.log.to(values.device), x.exp(), x)

    def scaled_inputs(self, values: np.ndarray) -> Tensor:
        return (torch.as_tensor(values, dtype=torch.float64) - self.input_mean) / self.input_std

    def errors(self, said: Tensor, targets: Tensor) -> Tensor:
        """Differences of values from targets (..., columns), both in the model's units, in standard deviations."""
        log = self.log_errors.to(said.device)
        least = torch.finfo(said.dtype).tiny

        def seen(x: Tensor) -> Tensor:
            return torch.where(log, torch.where(log, x, torch.ones_like(x)).clamp_min(least).log(), x)

        return (seen(said) - seen(targets)) / self.weight.to(said)

    def state_dict(self) -> dict[str, Tensor]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Scaling":
        return cls(**state)


def measured_scaling(
    values: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    *,
    log: Sequence[bool],
    standard: bool,
    unit: float | None,
) -> Scaling:
    """The scaling of the training rows of each series; a constant or blank column has standard deviation 1.

    Without `standard`, values, inputs and times are not scaled; only errors are those of logarithms, and divided by the
    standard deviations.
    If `unit` is None, it is the time in which the columns advance by a radian on average, estimated from their
    crossings of the mean (S. O. Rice, Bell System Technical Journal 24, 1945); the whole span is at least pi units.
    """
    logs = torch.tensor(log)
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = [np.where(np.array(log), np.log(x), x) for x in values]
    mean, std = _moments(seen)
    input_mean, input_std = _moments(inputs)
    if standard:
        own = _radian(seen, times, mean) if unit is None else unit
        weight = torch.ones_like(std)
    else:
        own, weight = 1.0 if unit is None else unit, std
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
        input_mean, input_std = torch.zeros_like(input_mean), torch.ones_like(input_std)
    return Scaling(
        unit=torch.tensor(own, dtype=torch.float64),
        mean=mean,
        std=std,
        log=logs & standard,
        log_errors=logs & (not standard),
        input_mean=input_mean,
        input_std=input_std,
        weight=weight,
    )


def _moments(parts: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column over all parts, ignoring blanks."""
    columns = [column[~np.isnan(column)] for column in np.concatenate(parts).T]
    mean = [float(column.mean()) if len(column) else 0.0 for column in columns]
    std = [float(column.std()) if len(column) else 0.0 for column in columns]
    held = [spread if spread > 1e-12 * abs(middle) else 1.0 for middle, spread in zip(mean, std, strict=True)]
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(held, dtype=torch.float64)


def _radian(values: Sequence[np.ndarray], times: Sequence[np.ndarray], mean: Tensor) -> float:
    """The time per radian: the time span of all series by the crossings of the mean, each of which is half a period."""
    span = sum(float(clock[-1] - clock[0]) for clock in times)
    crossings = []
    for place, middle in enumerate(mean.tolist()):
        columns = [x[:, place][~np.isnan(x[:, place])] > middle for x in values]
        crossings.append(sum(int((above[1:] != above[:-1]).sum()) for above in columns))
    return span / (np.pi * max(1.0, float(np.mean(crossings)), len(times)))
