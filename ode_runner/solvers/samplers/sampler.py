"""The base class of samplers: solvers that step from noise level to noise level, by the denoiser of a field."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.fields.counted_field import uncounted
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.denoising_field import ConsistencyField, DenoisingField
from ode_runner.problem import Solution
from ode_runner.solvers.base import MOST_STEPS, Solver
from ode_runner.solvers.samplers.sampling_grid import GridName, Level, sampling_grid
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times

ROUNDING = 1e-4  # of times, in steps


class Denoised(NamedTuple):
    """A state of a solve and its denoised state."""

    level: Level
    x: State
    x0: State  # E[x_0 | x]

    @property
    def eps(self) -> State:
        """E[e | x], the predicted noise."""
        return (self.x - self.level.alpha * self.x0) / self.level.sigma

    def at(self, level: Level) -> State:
        """The state with this data and noise at another level: a DDIM step, and the dense output of any sampler."""
        return level.alpha * self.x0 + level.sigma * self.eps


@dataclass(frozen=True, kw_only=True)
class Sampler(Solver):
    """A solver for the field of a Gaussian path, whose steps use alpha, sigma and the denoised state.

    `num_steps` is the number of steps of the whole span, and `grid` sets their times. If `grid` is None, it is
    `usual_grid` if the noise level is finite at the first time, else quadratic. The steps are not equal.
    """

    kind: ClassVar[str] = "a sampler"
    fields: ClassVar[type] = DenoisingField
    fields_in_words: ClassVar[str] = "the field of a Gaussian path, such as that of task=density2d model=exact"
    usual_grid: ClassVar[GridName] = "logsnr"
    num_steps: int | None
    step_size: float | None
    grid: GridName | None
    order: int = field(init=False)

    def __post_init__(self) -> None:
        if self.step_size is not None or self.num_steps is None:
            raise RefusedInput(
                f"solver.num_steps={as_typed(self.num_steps)} solver.step_size={as_typed(self.step_size)}: a sampler "
                "has steps of unequal lengths, so many in its whole span. Type "
                f"solver.num_steps={self.num_steps or 20}."
            )
        if not 1 <= self.num_steps <= MOST_STEPS:
            raise RefusedInput(f"solver.num_steps must be from 1 to {MOST_STEPS:,}, not {self.num_steps}.")

    @property
    def finer(self) -> str:
        return "more steps (solver.num_steps=...)"

    def refined(self) -> Self:
        """The same sampler with four times as many steps."""
        return replace(self, num_steps=min(4 * self.steps, MOST_STEPS))

    @property
    def steps(self) -> int:
        """The number of steps."""
        assert self.num_steps is not None
        return self.num_steps

    def solve(self, field: Any, y0: State, ts: Times) -> Solution:
        """Output times within a step use the denoised state at its beginning, without an evaluation."""
        times = read_times(ts)
        if times[0] == times[-1]:
            return Solution(ys=torch.stack([y0] * len(times)))
        path = path_of(field)
        self._check_start(Level.at(path, times[0]))
        self._check_direction(times)
        grid = self.grid or self._grid_from(Level.at(path, times[0]))
        levels = sampling_grid(path, times[0], times[-1], grid=grid, steps=self.steps)
        ys, x, history = [y0], y0, list[Denoised]()
        for now, after in pairwise(levels):
            history.append(self.denoised(field, now, x))
            if len(history) > 1:
                history[-1] = self.corrected(history)
            while len(ys) < len(times) and _is_before(times[len(ys)], now.t, after.t):
                ys.append(history[-1].at(Level.at(path, times[len(ys)])))
            if math.isinf(after.rho):  # pure noise: there is no level beyond
                x = history[-1].at(after)
            else:
                x = self.step(field, history, after, last=after is levels[-1])
        return Solution(ys=torch.stack([*ys, *[x] * (len(times) - len(ys))]), accepted=self.steps)

    def _grid_from(self, level: Level) -> GridName:
        """The grid to use; not one of noise levels if alpha is 0, where it would spend most steps on pure noise."""
        return self.usual_grid if math.isfinite(level.log_snr) else "quadratic"

    def _check_start(self, level: Level) -> None:
        """Raises RefusedInput if no first step can be made from a level."""
        if level.sigma == 0:
            raise RefusedInput(
                f"{self.shown_name} divides by the noise that is left, and at t = {level.t:g} there is none. "
                "Begin later, or use a solver of ordinary equations, such as solver=heun."
            )

    def _check_direction(self, times: Sequence[float]) -> None:
        """Raises RefusedInput if a sampler that draws noise is used from data to noise."""
        if self.draws and times[-1] > times[0]:
            raise RefusedInput(
                f"{self.shown_name} draws noise on its way from noise to data, and there is no such way back from "
                f"t = {times[0]:g} to {times[-1]:g}. Use a solver without noise, such as solver=ddim."
            )

    @staticmethod
    def denoised(field: Any, level: Level, x: State) -> Denoised:
        """The denoised state at a level, by one evaluation."""
        return Denoised(level, x, field.denoise(time_tensor(level.t, x), x))

    def corrected(self, history: list[Denoised]) -> Denoised:
        """The last entry of the history, corrected by a sampler whose last evaluation improves the step before it."""
        return history[-1]

    @abc.abstractmethod
    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        """The state at the level `after`, from the denoised states so far; the present state is the last."""


def _is_before(t: float, begin: float, end: float) -> bool:
    """Whether a time lies within a step, before its end up to rounding."""
    return (end - t) / (end - begin) > ROUNDING


def path_of(field: Any) -> GaussianPath:
    """The path of a field, without its wrappers."""
    own = uncounted(field)
    assert isinstance(own, DenoisingField | ConsistencyField)
    return own.path


def standard_normal(field: Any, t: float, u: float, y: State) -> Tensor:
    """A standard normal number per element, from the Brownian increment between two times.

    Raises:
        RefusedInput: both times are the same on the grid of the noise.
    """
    noise = field.driving_noise
    w = noise.increment(t, u, y).w
    span = abs(noise.path.nearest(u) - noise.path.nearest(t))
    if not span:
        raise RefusedInput(f"the step from t = {t:g} to {u:g} is too short for its noise. Use fewer steps.")
    return w / span**0.5
