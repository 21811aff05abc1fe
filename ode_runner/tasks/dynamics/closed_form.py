"""Initial value problems with known solutions, in which every error is the solver's."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Answer, Batch, Learner, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput, SolverFailed
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.known_solution import draw_known_solution
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.dynamics.known_problems import PLAIN, KnownProblem, heavy_ball, van_der_pol
from ode_runner.tasks.least_squares import LeastSquaresTask
from ode_runner.tasks.observations import reference_solution, with_roots
from ode_runner.tasks.sizes import check_counts, check_deviations
from ode_runner.types import Scalar, Times, Trajectory

Name = Literal[
    "car",
    "exponential",
    "sine",
    "square",
    "relaxation",
    "circle",
    "vanderpol",
    "gradient_flow",
    "heavy_ball",
    "robertson",
]
ORBIT = 2000  # times of the solution among which zero crossings are searched
DRAWN = 257  # times in a picture
POINTS, NOISE = 20, 0.01  # of observations
OBSERVED = "observed"  # the part of a batch that is learned from
EARLIEST = 1e-6  # first positive time of a picture with a logarithmic time axis


@final
class ClosedForm(LeastSquaresTask):
    """One solution from a known initial state, asked for at the last time.

    Metrics: `rmse`, the distance from the true state at the last time; `rmse_scale`, the norm of that state;
    `invariant_drift`, the change of a quantity that the true solution conserves; the norm of the last state, as
    `radius` for `problem=circle` and as `final_size` for `gradient_flow`; and the `period` for `vanderpol`. With
    model=exact, which learns nothing, all splits are the same. With model=parametric, unknown parameters of the
    equation are learned from noisy observations of the solution.

    Args:
        problem: its name.
        mu: parameter of van der Pol's equation; None: 1.
        friction: parameter of the heavy ball; None: 1.
        horizon: the last time; None: the problem's default.
        points: number of evenly spaced observations after the first time; None: 20.
        noise: standard deviation of their noise, relative to that of each coordinate over time; None: 0.01.
    """

    has_true_field: ClassVar[bool] = True
    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.EQUATION})
    of_learning: ClassVar[frozenset[str]] = frozenset({"points", "noise"})
    objective: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False

    def __init__(
        self,
        *,
        problem: Name,
        mu: float | None,
        friction: float | None,
        horizon: float | None,
        points: int | None,
        noise: float | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.name, self.seed, self.device = problem, seed, device
        self.points, self.noise = POINTS if points is None else points, NOISE if noise is None else noise
        check_counts(1, points=self.points)
        check_deviations(noise=self.noise)
        self.problem = chosen_problem(problem, mu=mu, friction=friction)
        if horizon is not None and horizon <= 0:
            raise RefusedInput(f"task.horizon must be above 0, not {horizon}.")
        self.horizon = self.problem.horizon if horizon is None else horizon
        self.y0 = torch.tensor([self.problem.y0], dtype=torch.float64)
        shape = (len(self.problem.y0),)
        self.spec = TaskSpec(
            input_shape=shape,
            output_shape=shape,
            every_time=True,
            autonomous=True,
            state_itself=True,
            span=(0.0, self.horizon),
            field=self.problem.field,
        )
        self.batch = self._batch(torch.tensor([0.0, self.horizon], dtype=torch.float64))

    def coordinates(self) -> Sequence[str]:
        return self.problem.names

    def size(self, split: Split) -> int:
        return 1

    @property
    def each_once(self) -> bool:
        return True

    @cached_property
    def observed(self) -> Batch:
        """The noisy observations at times after the first."""
        true = self._observable
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(true.targets.shape, generator=generator, dtype=torch.float64).to(self.device)
        noise[0] = 0  # the initial state is known
        targets = true.targets + self.noise * self._spread * noise
        return true._replace(targets=targets, part=OBSERVED)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        yield self.batch if split is Split.TEST else self.observed
        if self.name == "vanderpol" and split is Split.TEST:
            yield self._batch(torch.linspace(0, self.horizon, ORBIT, dtype=torch.float64))._replace(part="orbit")

    def residuals(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Errors in units of each coordinate's standard deviation over the observations.

        Raises:
            RefusedInput: the solution has diverged before the last time.
        """
        if self.horizon >= self.problem.bound:
            raise RefusedInput(
                f"task.problem={self.name} becomes infinite at t={self.problem.bound:g}, and nothing can be observed "
                f"up to t={self.horizon:g}. Use a smaller task.horizon."
            )
        return ((outputs.values - batch.targets) / self._spread)[1:].flatten()

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        if batch.part == OBSERVED:
            return super().loss(outputs, batch)
        if self.horizon >= self.problem.bound:
            raise SolverFailed(
                f"task.problem={self.name} becomes infinite at t={self.problem.bound:g}, but the solver has stepped "
                f"over it to t={self.horizon:g}. An adaptive solver, such as solver=dopri5, notices it."
            )
        return (outputs.values - batch.targets)[-1].square().sum(dim=-1).mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        if batch.part == "orbit":
            return {"period": period(batch.ts, outputs.values[:, 0])}
        if batch.part == OBSERVED:
            return {"mse": self.residuals(outputs, batch).square().mean()}
        last = outputs.values[-1]
        found = {"mse": (last - batch.targets[-1]).square().sum(dim=-1).mean()}
        match self.name:
            case "circle":
                found["radius"] = last.norm(dim=-1).mean()
            case "gradient_flow":
                found["final_size"] = last.norm(dim=-1).mean()
        if self.problem.invariant is not None:
            drift = self.problem.invariant(last) - self.problem.invariant(outputs.values[0])
            found["invariant_drift"] = drift.abs().max()
        return found | {"rmse_scale": batch.targets[-1].norm(dim=-1).mean()}

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        return with_roots(means)

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        yield from super().remarks(metrics, learner=learner)
        if math.isnan(metrics.get("test/period", 0.0)):
            yield (
                f"test/period: unknown, because up to t={self.horizon:g} the solution crosses x = 0 less than twice in "
                "either direction. Use a larger task.horizon."
            )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Figure]]:
        ts = self._drawn_times()
        true, found = self._solution(ts)[:, 0], view.predict(self.y0.to(self.device), ts.to(self.device))[:, 0].cpu()
        seen = None if view.exact else (self.observed.ts.cpu(), self.observed.targets[:, 0].cpu())
        names, log = self.problem.names, self.problem.decades
        yield "solution", draw_known_solution(ts, true, found, names=names, log=log, seen=seen)

    def _batch(self, ts: Times) -> Batch:
        targets = self._solution(ts)
        return Batch(self.y0.to(self.device), ts.to(self.device), targets.to(self.device))

    @cached_property
    def _observable(self) -> Batch:
        return self._batch(torch.linspace(0, self.horizon, self.points + 1, dtype=torch.float64))

    @cached_property
    def _spread(self) -> Tensor:
        """Standard deviation of each coordinate (state,) over the times of observations; 1 if it is constant."""
        spread = self._observable.targets[1:].std(dim=(0, 1), correction=0)
        return torch.where(spread > 0, spread, torch.ones_like(spread))

    def _solution(self, ts: Times) -> Trajectory:
        """True states (time, 1, state)."""
        if self.problem.exact is not None:
            return self.problem.exact(ts)[:, None]
        return reference_solution(self.problem.field, self.y0, ts, stiff=self.problem.stiff)

    def _drawn_times(self) -> Times:
        if not self.problem.decades:
            return torch.linspace(0, self.horizon, DRAWN, dtype=torch.float64)
        later = torch.logspace(0, 1, DRAWN - 1, base=self.horizon / EARLIEST, dtype=torch.float64) * EARLIEST
        return torch.cat([later.new_zeros(1), later[:-1], later.new_tensor([self.horizon])])


def chosen_problem(name: Name, *, mu: float | None, friction: float | None) -> KnownProblem:
    """The problem of this name.

    Raises:
        RefusedInput: a parameter is out of range, or belongs to another problem.
    """
    for option, value, owner in (("mu", mu, "vanderpol"), ("friction", friction, "heavy_ball")):
        if value is not None and name != owner:
            raise RefusedInput(f"task.{option}={value:g} is of task.problem={owner}, and not of {name}. Leave it out.")
        if value is not None and value < 0:
            raise RefusedInput(f"task.{option} must be 0 or more, not {value:g}.")
    if name == "vanderpol":
        return van_der_pol(1.0 if mu is None else mu)
    if name == "heavy_ball":
        return heavy_ball(1.0 if friction is None else friction)
    return PLAIN[name]()


def period(ts: Times, states: Tensor) -> Scalar:
    """The time between the last two crossings of x = 0 in the same direction; NaN if there are no two.

    The states (time, 2) are (x, x'), so that x is interpolated by a cubic Hermite polynomial.
    """
    x, v = states.unbind(dim=1)
    latest = [crossings(ts, x * sign, v * sign) for sign in (1, -1)]
    several = [found for found in latest if len(found) > 1]
    if not several:
        return x.new_tensor(torch.nan)
    last = max(several, key=lambda found: float(found[-1]))
    return last[-1] - last[-2]


def crossings(ts: Times, x: Tensor, v: Tensor) -> Tensor:
    """The times at which x, with derivative v, crosses 0 from below."""
    [indices] = ((x[:-1] < 0) & (x[1:] >= 0)).nonzero(as_tuple=True)
    h, low, high = ts[indices + 1] - ts[indices], x.new_zeros(len(indices)), x.new_ones(len(indices))
    for _ in range(60):  # bisection steps, down to rounding
        middle = (low + high) / 2
        below = _between(middle, h, x[indices], x[indices + 1], v[indices], v[indices + 1]) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return ts[indices] + h * high


def _between(s: Tensor, h: Tensor, x0: Tensor, x1: Tensor, v0: Tensor, v1: Tensor) -> Tensor:
    """The cubic Hermite polynomial at the fraction s of an interval of length h."""
    r = 1 - s
    return r**2 * (1 + 2 * s) * x0 + s**2 * (1 + 2 * r) * x1 + s * r * h * (r * v0 - s * v1)
