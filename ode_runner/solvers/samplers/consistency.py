"""Sampling from a consistency model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from ode_runner.paths.denoising_field import ConsistencyField
from ode_runner.solvers.samplers.sampler import Denoised, Sampler, path_of, standard_normal
from ode_runner.solvers.samplers.sampling_grid import GridName, Level
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Consistency(Sampler):
    """One jump from noise to data. Each further step adds fresh noise up to the next level and jumps again.

    The data that a jump reaches still have the smallest noise level of the path; fresh noise is the difference to the
    next level.

    Song, Dhariwal, Chen, Sutskever. Consistency Models. ICML 2023, algorithm 1.
    """

    kind: ClassVar[str] = "a sampler of jumps"
    fields: ClassVar[type] = ConsistencyField
    fields_in_words: ClassVar[str] = "a function that takes noise to data at once, such as that of model=consistency"
    usual_grid: ClassVar[GridName] = "karras"
    order: int = field(default=1, init=False)  # nominal: it solves no equation, and more steps draw more noise

    @property
    def draws(self) -> bool:
        return self.steps > 1

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.draws else {"grid": "solver.num_steps=1 has no levels between"}

    @staticmethod
    def denoised(field: Any, level: Level, x: State) -> Denoised:
        return Denoised(level, x, field.jump(time_tensor(level.t, x), x))

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        now = history[-1]
        if last:
            return now.x0
        left = Level.at(path_of(field), 0.0).sigma
        fresh = standard_normal(field, now.level.t, after.t, now.x)
        return now.x0 + (after.sigma**2 - left**2) ** 0.5 * fresh
