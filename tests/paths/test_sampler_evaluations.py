"""Evaluations of samplers by their steps: so many are in the ledger, and for so many the network has been asked."""

import itertools
import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import Generator, sample_noise
from ode_runner.models.generators.predicted_field import GuidedField, PredictedField
from ode_runner.models.generators.rescaled_field import rescaled
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.paths.heads import Head
from ode_runner.paths.named import path_named
from ode_runner.paths.noise_level import NoiseLevel
from ode_runner.paths.variance_exploding import VarianceExploding
from ode_runner.solvers.samplers.sampler import Sampler
from ode_runner.solvers.samplers.sampling_grid import Level, sampling_grid
from ode_runner.types import State, Time
from tests.composition import Compose
from tests.problems import build

BATCH = 3
PATHS = ("linear", "vp", "subvp", "ve", "cosine", "noise_level", "vp along ve")
SAMPLERS: list[tuple[str, dict[str, Any]]] = [
    ("ddim", {}),
    ("dpm2", {}),
    ("dpmpp_2m", {}),
    *(("deis", {"order": order}) for order in (2, 3)),
    *(("unipc", {"order": order}) for order in (1, 2, 3)),
    *(("ddpm", {"eta": eta}) for eta in (0.0, 0.5, 1.0)),
    ("edm_heun", {}),
    ("edm_heun", {"s_churn": 1.0}),
    ("edm_heun", {"s_churn": 1e4}),
    ("edm_heun", {"s_churn": 4.0, "s_min": 0.05, "s_max": 2.0}),
    *(("predictor_corrector", {"corrections": count}) for count in (1, 3)),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("euler", {}),
    ("heun", {}),
    ("rk4", {}),
    ("euler_maruyama", {}),
    ("euler_maruyama", {"last_noise": True}),
    ("milstein", {}),
    ("srk", {}),
    ("heun_sde", {}),
    ("midpoint_sde", {}),
    ("reversible_heun_sde", {}),
]
SPANS = ((1.0, 0.0), (1.0, 1e-3), (0.999, 0.0), (0.9, 0.1))
GRIDS = (None, "time", "quadratic", "logsnr", "karras")
A_STEP = {"heun": 2, "rk4": 4, "srk": 2, "heun_sde": 2, "midpoint_sde": 2, "dpm2": 2, "edm_heun": 2}


class Rows(VectorField):
    """A network that counts the rows that it is asked for."""

    batched_time = True

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        self.rows += len(y)
        return 0.1 * y


def field_of(path: str, head: Head, network: VectorField, *, guided: bool) -> DenoisingField:
    known = NoiseLevel(rho_max=5.0) if path == "noise_level" else path_named(path.split()[0])  # type: ignore[arg-type]
    field: DenoisingField = PredictedField(network, path=known, head=head)
    field = GuidedField(field, scale=3.0) if guided else field
    return rescaled(field, VarianceExploding(sigma_min=0.02, sigma_max=10.0)) if " " in path else field


def levels_of(solver: Sampler, field: DenoisingField, span: tuple[float, float]) -> list[Level]:
    grid = solver.grid or solver._grid_from(Level.at(field.path, span[0]))
    return sampling_grid(field.path, *span, grid=grid, steps=solver.steps)


def expected(name: str, options: dict[str, Any], levels: list[Level]) -> int:
    """Steps by what one takes; of two stages, one where alpha is 0 at its beginning or sigma at its end."""
    steps = list(itertools.pairwise(levels))
    if name == "predictor_corrector":
        return len(steps) + (len(steps) - 1) * int(options["corrections"])
    if name not in ("dpm2", "edm_heun"):
        return len(steps)
    plain = sum(1 if now.alpha == 0 or after.sigma == 0 else 2 for now, after in steps)
    if not options.get("s_churn"):
        return plain
    low, high = options.get("s_min", 0.0), options.get("s_max", math.inf)
    return plain + sum(low <= now.rho <= high and math.isfinite(now.rho) for now, _ in steps)


def counted(solver: Any, field: DenoisingField, span: tuple[float, float], *, guided: bool) -> tuple[float, int]:
    """Evaluations and steps as the ledger has them."""
    bound = Integrator(solver=solver, gradient=Backprop())
    generator = Generator(field=field, shape=(2,), start=span[0], end=span[1])
    given = [torch.ones(BATCH, 1, dtype=torch.float64)] if guided else []
    with bound.ledger.phase(Phase.SAMPLING) as tally, torch.no_grad():
        generator.generate(sample_noise(0, torch.arange(BATCH)), bound, times=2, dtype=torch.float64, given=given)
    return tally.evaluations, tally.accepted


def some(count: int, *axes: Any) -> list[Any]:
    """So many cells of a product, always the same."""
    return random.Random(0).sample(list(itertools.product(*axes)), count)


def check_sampler(composed: Compose, cell: Any) -> None:
    path, head, (name, options), grid, steps, span, guided = cell
    network = Rows()
    field = field_of(path, head, network, guided=guided)
    solver = build(composed, "solver", name, num_steps=steps, grid=grid, **options)
    wanted = expected(name, options, levels_of(solver, field, span)) * (2 if guided else 1)
    assert counted(solver, field, span, guided=guided) == (wanted, steps), cell
    assert network.rows == wanted * BATCH, cell


@pytest.mark.parametrize("count", [100, pytest.param(1500, marks=pytest.mark.slow)])
def test_samplers_take_as_many_evaluations_as_their_steps_say(composed: Compose, count: int) -> None:
    for cell in some(count, PATHS, Head, SAMPLERS, GRIDS, (1, 2, 3, 6), SPANS, (False, True)):
        check_sampler(composed, cell)


@pytest.mark.filterwarnings("ignore:the two states that solver=reversible_heun_sde carries")
@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_other_solvers_take_their_stages_at_every_step(composed: Compose, count: int) -> None:
    """Whose steps are those of a unit of time; the reversible one begins with an evaluation more."""
    for path, head, (name, options), steps, span, guided in some(
        count, PATHS, Head, OTHERS, (1, 2, 6), ((0.999, 1e-3), (0.9, 0.1)), (False, True)
    ):
        network = Rows()
        field = field_of(path, head, network, guided=guided)
        taken = math.ceil(steps * (span[0] - span[1]))
        wanted = (A_STEP.get(name, 1) * taken + (name == "reversible_heun_sde")) * (2 if guided else 1)
        solver = build(composed, "solver", name, num_steps=steps, **options)
        assert counted(solver, field, span, guided=guided) == (wanted, taken), (path, name, steps, span, guided)
        assert network.rows == wanted * BATCH
