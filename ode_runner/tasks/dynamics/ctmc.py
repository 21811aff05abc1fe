"""A continuous-time Markov chain, whose distribution is known at every time."""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ode_runner.batch import Answer, Batch, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.field import VectorField
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.probabilities import draw_probabilities
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.dynamics.chains import (
    ChainJumps,
    MasterEquation,
    ReverseChainJumps,
    ReverseMasterEquation,
    distribution_at,
    random_generator,
    uniform_generator,
)
from ode_runner.tasks.set_metrics import SetMeasuringTask, SetMetric
from ode_runner.tasks.sizes import check_counts, check_horizon
from ode_runner.tasks.variation import expected_variation, total_variation
from ode_runner.types import Scalar, Times

HORIZON = {False: 1.0, True: 4.0}  # forward, and reversed
DRAWN = 33  # times in a picture


@final
class CTMC(SetMeasuringTask):
    """The probabilities of the states, or sampled paths, over the horizon.

    `tv` is the total variation distance between the distribution at the end and the exact one, from the matrix
    exponential of the generator. Its floor is 0 for probabilities; for paths it is the expected distance for as many
    paths of the exact distribution. For probabilities, `mass_drift` is the deviation of their sum from 1, and `least`
    is the smallest of them.

    There is nothing to learn, and all splits are the same.

    Args:
        start: the distribution at t = 0.
        generator: random, from the seed, or uniform; None: random forward, uniform in reverse.
        horizon: the last time; None: 1 forward, 4 in reverse.
        reverse: whether to go from the distribution at the horizon back to that at 0.
        paths: number of sampled paths, for a jump solver; None: probabilities, for an ODE solver.
    """

    has_true_field: ClassVar[bool] = True
    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.TRUTH})
    objective: ClassVar[str] = "tv"
    higher_is_better: ClassVar[bool] = False

    def __init__(
        self,
        *,
        start: Sequence[float],
        generator: Literal["random", "uniform"] | None,
        horizon: float | None,
        reverse: bool,
        paths: int | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self._check(start, horizon, paths, reverse=reverse)
        self.seed, self.device, self.paths, self.reverse = seed, device, paths, reverse
        self.start = torch.tensor(start, dtype=torch.float64)
        self.horizon = HORIZON[reverse] if horizon is None else horizon
        is_random = generator == "random" or (generator is None and not reverse)
        self.generator = random_generator(len(start), seed) if is_random else uniform_generator(len(start))
        shape = (len(start),) if paths is None else (1,)
        self.spec = TaskSpec(
            input_shape=shape,
            output_shape=shape,
            every_time=True,
            state_itself=True,
            span=(0.0, self.horizon),
            field=self._field(),
            noise_seed=None if paths is None else seed,
        )
        self.ts = self._times(2)
        self.first, self.last = distribution_at(self.generator, self.start, self.ts.cpu())

    def size(self, split: Split) -> int:
        return self.paths or 1

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        """A single batch of all paths, since their noise is identified by the position in it."""
        yield Batch(self._beginning(), self.ts, self.last[None].to(self.device))

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return total_variation(self._distribution(outputs.values[-1]), self.last)

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        if self.paths is not None:
            return {}
        p = outputs.values[-1]
        return {"mass_drift": (p.sum(dim=1) - 1).abs().max(), "least": p.min()}

    def set_metrics(self, split: Split, answers: Sequence[tuple[Batch, Outputs]]) -> dict[str, SetMetric]:
        found = self._distribution(torch.cat([outputs.values[-1] for _, outputs in answers]))
        floor = 0.0 if self.paths is None else expected_variation(self.last, self.paths)
        return {"tv": SetMetric(float(total_variation(found, self.last)), floor)}

    def figures(self, view: ModelView) -> Iterator[tuple[str, Figure]]:
        ts = self._times(DRAWN)
        found = torch.stack([self._distribution(states) for states in view.predict(self._beginning(), ts)])
        true = distribution_at(self.generator, self.start, ts.cpu())
        yield "probabilities", draw_probabilities(ts.cpu(), true, found)

    def _field(self) -> VectorField:
        if self.paths is None:
            return ReverseMasterEquation(self.generator, self.start) if self.reverse else MasterEquation(self.generator)
        return ReverseChainJumps(self.generator, self.start) if self.reverse else ChainJumps(self.generator)

    def _times(self, count: int) -> Times:
        ts = torch.linspace(0, self.horizon, count, dtype=torch.float64, device=self.device)
        return ts.flip(0) if self.reverse else ts

    def _beginning(self) -> Tensor:
        """The distribution at the first time, (1, state); or initial states drawn from it, (path, 1)."""
        if self.paths is None:
            return self.first[None].to(self.device)
        places = torch.rand(self.paths, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        states = torch.searchsorted(self.first.cumsum(dim=0), places).clamp(max=len(self.first) - 1)
        return states[:, None].to(self.device)

    def _distribution(self, states: Tensor) -> Tensor:
        """The distribution, (state,), given by outputs at one time."""
        if self.paths is None:
            return states[0].cpu().double()
        return one_hot(states[:, 0].long(), len(self.start)).double().mean(dim=0).cpu()

    @staticmethod
    def _check(start: Sequence[float], horizon: float | None, paths: int | None, *, reverse: bool) -> None:
        if len(start) < 2 or min(start) < 0 or not math.isclose(sum(start), 1, abs_tol=1e-6):
            raise RefusedInput(f"task.start={as_typed(start)} must be two probabilities or more, which sum to 1.")
        if reverse and paths is None and min(start) == 0:
            raise RefusedInput(
                f"task.start={as_typed(start)} with task.reverse=true: towards t=0 the chain leaves a state without "
                "probability at an infinite rate, which no solver of a differential equation follows. Give it some, "
                "such as 0.001, or follow paths: task.paths=1000 solver=gillespie."
            )
        if horizon is not None:
            check_horizon(horizon)
        if paths is not None:
            check_counts(1, paths=paths)
