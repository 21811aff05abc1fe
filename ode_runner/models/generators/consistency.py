"""Consistency models."""

import math
from copy import deepcopy
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Answer
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField, WrappedField, broadcast_time
from ode_runner.models.base import Numerics
from ode_runner.models.density import data_shape, encode_data
from ode_runner.models.generator import Generator
from ode_runner.models.generators.distilled import EXACT, DistilledModel
from ode_runner.models.generators.rescaled_field import rescaled
from ode_runner.networks.base import Network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.consistency import ConsistencyLearner, ConsistencyTraining
from ode_runner.paths.base import KARRAS, GaussianPath
from ode_runner.paths.denoising_field import ConsistencyField, DenoisingField, KnownDistribution
from ode_runner.paths.variance_exploding import VarianceExploding
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times

FEWEST = 2  # initial number of levels in training without a teacher


@final
class Consistency(DistilledModel, ConsistencyLearner):
    """Learns the function that maps y = x_0 + rho e, at any rho, to the end of the ODE trajectory through it.

    Args:
        teacher: the field of the trajectories: `exact`, the task's true field; the folder of a run that has learned a
            field; None: consistency training, without a teacher.
        levels: number of levels of rho in training; without a teacher, it grows from 2 to this number.
        target_decay: decay per step of the moving average of weights that are the student's target. None: 0.95 with a
            teacher, 0 without, where a lagging target makes results much worse.
        huber: distances far below this one are squared.
        data_std: standard deviation of the data, per coordinate; None: that of the task.
        rho_min: noise level of the samples.
        rho_max: noise level at which sampling begins.

    Song, Dhariwal, Chen, Sutskever. Consistency Models. ICML 2023.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.SAMPLES})
    objective: ClassVar[Objective[ConsistencyLearner]] = ConsistencyTraining()
    other_solver: ClassVar[str] = (
        "solver={solver} integrates a field, and model={model} takes noise to data in one step. Use "
        "solver=consistency solver.num_steps=1."
    )
    level_count: Tensor  # (), at present
    levels_path: VarianceExploding

    def __init__(
        self,
        network: Network,
        *,
        teacher: str | None,
        levels: int | None,
        target_decay: float | None,
        huber: float,
        data_std: float | None,
        rho_min: float,
        rho_max: float,
    ) -> None:
        super().__init__(network, teacher=teacher)
        self.target_decay = (0.0 if teacher is None else 0.95) if target_decay is None else target_decay
        self.levels = (80 if teacher is None else 18) if levels is None else levels
        if self.levels < FEWEST:
            raise RefusedInput(f"model.levels must be {FEWEST} at least, not {levels}.")
        if not 0 < rho_min < rho_max:
            raise RefusedInput(f"model.rho_min={rho_min} must be above 0 and below model.rho_max={rho_max}.")
        if not 0 <= self.target_decay < 1:
            raise RefusedInput(f"model.target_decay must be 0 or more and less than 1, not {target_decay}.")
        if not huber > 0:
            raise RefusedInput(f"model.huber must be above 0, not {huber}.")
        self.spec, self.shape = network.spec, data_shape(network)
        self.head, self.huber = nn.Identity(), huber
        by = "the data" if teacher is None else "a teacher"
        self.compared = f"{self.levels} levels of {by} from rho={rho_min:g} to {rho_max:g}, huber={huber:g}"
        self.levels_path = VarianceExploding(sigma_min=rho_min, sigma_max=rho_max)
        std = network.spec.std if data_std is None else data_std
        jump = Jump(network.field(given=network.spec.condition), path=self.levels_path, data_std=std)
        self.field = LearnedJump(jump, path=self.levels_path)
        self.follower = deepcopy(self.field).requires_grad_(False)
        self.register_buffer("level_count", torch.tensor(self.levels))
        if teacher == EXACT:
            self.learn_from(self._true(network.spec.field))

    @property
    def student(self) -> VectorField:
        return self.field.inner

    @property
    def target(self) -> VectorField:
        return self.follower.inner

    def encode(self, inputs: Tensor) -> Encoding:
        """The data, with their condition, if there is one, as given."""
        return encode_data(self.stem, inputs, self.spec)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        raise NotImplementedError("there are no states between noise and data")

    def generator(self) -> Generator:
        return Generator(field=self.field, shape=self.shape, start=1.0, end=0.0)

    def teacher_generator(self) -> Generator | None:
        if self.teacher is None:
            return None
        return Generator(field=self.teacher, shape=self.shape, start=1.0, end=0.0)

    def learn_from(self, generator: Generator) -> None:
        """Learn from the field of a teacher's generator.

        Raises:
            IncompatibleChoice: its noise levels do not contain those of this model.
        """
        field = generator.field
        if not isinstance(field, DenoisingField):
            raise IncompatibleChoice(
                "the teacher takes noise to data at once, and a consistency model learns the trajectories of a field. "
                "Use the folder of a run of model=flow_matching, diffusion or edm."
            )
        own = field.path
        begun, ended = own.rho(torch.tensor([generator.start, generator.end], dtype=torch.float64)).tolist()
        if begun < self.levels_path.noise_std * (1 - 1e-3):
            raise IncompatibleChoice(
                f"the teacher's samples begin with noise of {begun:.3g} times the data, and model.rho_max="
                f"{self.levels_path.noise_std:.3g} is beyond that. Use model.rho_max={begun:.3g}."
            )
        if ended > self.levels_path.sigma_min * (1 + 1e-3):
            raise IncompatibleChoice(
                f"the teacher's samples end with noise of {ended:.3g} times the data, and model.rho_min="
                f"{self.levels_path.sigma_min:.3g} is below that, where it has learned nothing. Use "
                f"model.rho_min={ended:.3g}."
            )
        self.teacher = rescaled(field, self.levels_path).requires_grad_(False)

    @torch.no_grad()
    def begin_step(self, progress: float) -> None:
        """Update the target; without a teacher, also the number of levels."""
        if self.teacher_option is None:
            self.level_count.fill_(levels_at(progress, self.levels))
        for followed, weight in zip(self.follower.parameters(), self.field.parameters(), strict=True):
            followed.lerp_(weight, 1 - self.target_decay)

    def neighbours(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Two neighbouring levels: in training, of the present grid; otherwise, of the final one."""
        count = self.level_count if self.training else torch.full_like(self.level_count, self.levels)
        lower = (uniform * (count - 1)).floor().clamp(max=count - 2)
        return self._time_of_level(lower + 1, count), self._time_of_level(lower, count)

    def _time_of_level(self, number: Tensor, count: Tensor) -> Tensor:
        """The time of a level. Levels are evenly spaced in rho^(1/7); the first is exactly the path's beginning."""
        low, high = (rho ** (1 / KARRAS) for rho in (self.levels_path.sigma_min, self.levels_path.noise_std))
        rho = (low + number / (count - 1) * (high - low)) ** KARRAS
        return torch.where(number == 0, torch.zeros_like(rho), self.levels_path.time_of_rho(rho))

    def _true(self, field: VectorField | None) -> Generator:
        if not isinstance(field, KnownDistribution):
            raise IncompatibleChoice(
                "model.teacher=exact needs a task whose density is known. Use task=density2d "
                "task.name=8gaussians_narrow, or the folder of a run: model.teacher=FOLDER."
            )
        return Generator(field=field, shape=self.shape, start=1.0, end=0.0)


@final
class LearnedJump(WrappedField, ConsistencyField):
    """A consistency function, given by `inner`."""

    def __init__(self, inner: VectorField, *, path: GaussianPath) -> None:
        super().__init__(inner)
        self.path = path

    def jump(self, t: Time, x: State, *given: Tensor) -> State:
        return self.inner(t, x, *given)


@final
class Jump(WrappedField):
    """c_skip x + c_out f(log(rho) / 4, c_in x): equal to x at the smallest rho, for any f.

    Song, Dhariwal, Chen, Sutskever. Consistency Models. ICML 2023, appendix C.
    """

    def __init__(self, inner: VectorField, *, path: VarianceExploding, data_std: float) -> None:
        super().__init__(inner)
        self.path, self.data_std = path, data_std

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        rho = self.path.sigma(broadcast_time(t, y))
        above, std = rho - self.path.sigma_min, self.data_std
        skip, out = std**2 / (above.square() + std**2), above * std / (rho.square() + std**2).sqrt()
        return skip * y + out * self.inner(-self.path.log_snr(t) / 4, y / (rho.square() + std**2).sqrt(), *given)


def levels_at(progress: float, last: int) -> int:
    """The number of levels in training without a teacher, after a fraction `progress`: from 2 to `last`.

    Song, Dhariwal, Chen, Sutskever. Consistency Models. ICML 2023, appendix C.
    """
    squared = progress * (last**2 - FEWEST**2) + FEWEST**2
    return max(FEWEST, min(last, math.ceil(math.sqrt(squared))))
