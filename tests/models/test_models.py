"""Every model on every kind of input, with every solver and gradient mode it accepts: any two of these together."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.compatibility import check_compatible
from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.forward import Forward
from ode_runner.integrator import Integrator
from ode_runner.models.base import Integrate, Model, Numerics
from ode_runner.models.depth.augmented import Augmented
from ode_runner.models.depth.odenet import ODENet
from ode_runner.models.depth.resnet import ResNet
from ode_runner.networks.base import Network
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from tests.problems import Compose, accepted_pairs, build, learners, named_class

TS = torch.tensor([0.0, 1.0])
MOONS = TaskSpec(input_shape=(2,), output_shape=(2,))
DIGITS = TaskSpec(input_shape=(1, 8, 8), output_shape=(10,))
SETTINGS: dict[str, tuple[TaskSpec, str, dict[str, int]]] = {
    "half_moons-mlp": (MOONS, "mlp", {"width": 8}),
    "digits-mlp": (DIGITS, "mlp", {"width": 8}),
    "digits-conv": (DIGITS, "conv", {"width": 40}),  # at 32 or less each channel is normalised alone: biases are dead
}

# A grid that a field with a clock finds coarse is good enough to see that everything is differentiated.
pytestmark = pytest.mark.filterwarnings("ignore:.* takes steps of")

Make = Callable[..., Any]


@pytest.fixture
def make(composed: Compose) -> Make:
    return lambda group, name, *positional, **changed: build(composed, group, name, *positional, **changed)


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(make: Make, setting: str) -> Network:
    spec, name, changed = SETTINGS[setting]
    return make("network", name, spec, **changed)


def inputs_for(setting: str, batch: int = 3) -> Tensor:
    return torch.rand(batch, *SETTINGS[setting][0].input_shape)


class Never:
    """Not to be called as `integrate`."""

    def __call__(self, *_: Any, **__: Any) -> Solution:
        raise AssertionError("a model without numerics must not integrate")

    evaluate = __call__


never = Never()


def loss_of(outputs: Tensor) -> Tensor:
    """The loss of classification, with classes drawn at random."""
    return nn.functional.cross_entropy(outputs, torch.randint(outputs.shape[1], (len(outputs),)))


def check_gradients(model: Model, integrate: Any, setting: str) -> None:
    """Finite after each of two random batches, and not zero in their sum."""
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for _ in range(2):
        model.zero_grad()
        loss_of(model(inputs_for(setting), TS, integrate).values).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            sums[name] += parameter.grad.abs()
    assert [name for name, total in sums.items() if not total.any()] == []


Cell = tuple[str, str, str, str]  # model, solver, gradient mode, setting
SAMPLE, QUICK = 100, 16
DIRECTIONS = 5000  # of forward mode: more than a small network has parameters


def goes_together(cell: Cell) -> bool:
    """The model takes the solver and the mode; a convolution has too many parameters for forward mode."""
    name, solver, mode, setting = cell
    gradient = named_class("gradient", mode)
    if issubclass(gradient, Forward) and setting == "digits-conv":
        return False
    discrete = named_class("model", name).numerics is Numerics.DISCRETE
    return not discrete or (issubclass(named_class("solver", solver), FixedStepRungeKutta) and gradient.exact)


def drawn_cells() -> list[Cell]:
    """A sample of all cells, always the same, and as many more as it takes to see any two choices that go together."""
    integrating = [name for name in learners() if named_class("model", name).numerics is not Numerics.NONE]
    every = [(name, *pair, setting) for name in integrating for pair in accepted_pairs() for setting in SETTINGS]
    cells, seen = list[Cell](), set[tuple[tuple[int, str], ...]]()
    for cell in sorted(filter(goes_together, every), key=lambda cell: hashlib.sha256(repr(cell).encode()).digest()):
        couples = set(combinations(enumerate(cell), 2))
        if len(cells) < SAMPLE or not couples <= seen:
            cells.append(cell)
            seen |= couples
    return cells


def marked_cells() -> list[Any]:
    """Some of those with the usual solvers are quick."""
    cells = drawn_cells()
    quick = [cell for cell in cells if cell[1] in ("rk4", "dopri5")][:QUICK]
    return [pytest.param(*cell, marks=() if cell in quick else pytest.mark.slow) for cell in cells]


@pytest.mark.parametrize(("name", "solver", "gradient", "setting"), marked_cells(), indirect=["setting"])
def test_every_parameter_learns_in_every_cell(
    make: Make, name: str, network: Network, setting: str, solver: str, gradient: str
) -> None:
    model, method = make("model", name, network), make("solver", solver)
    forward = issubclass(named_class("gradient", gradient), Forward)
    mode = make("gradient", gradient, **({"max_directions": DIRECTIONS} if forward else {}))
    check_compatible({"model": name, "solver": solver, "gradient": gradient}, type(model), method, mode)
    integrate = Integrator(solver=method, gradient=mode)
    outputs = model(inputs_for(setting, 5), TS, integrate)
    assert outputs.values.shape == (5, *SETTINGS[setting][0].output_shape)
    check_gradients(model, integrate, setting)


@pytest.mark.parametrize("name", learners())
def test_models_without_numerics_never_integrate(make: Make, name: str, network: Network, setting: str) -> None:
    model = make("model", name, network)
    if model.numerics is not Numerics.NONE:
        pytest.skip("integrates")
    assert model(inputs_for(setting, 5), TS, never).values.shape == (5, *SETTINGS[setting][0].output_shape)
    check_gradients(model, never, setting)


@pytest.mark.parametrize("name", learners())
def test_states_begin_with_the_stem_and_end_under_the_head(
    make: Make, name: str, network: Network, setting: str
) -> None:
    model, inputs = make("model", name, network), inputs_for(setting)
    integrate = Integrator(solver=make("solver", "rk4"), gradient=make("gradient", "backprop"))
    y0 = model.stem(inputs)
    states = model.evolve(Encoding(y0), TS, integrate).ys
    torch.testing.assert_close(states[0][:, : y0.shape[1]], y0)
    torch.testing.assert_close(model.head(states[-1]), model(inputs, TS, integrate).values)


@pytest.mark.parametrize("name", learners())
def test_a_continuous_model_gives_its_states_at_the_times_asked_for(
    make: Make, name: str, network: Network, setting: str
) -> None:
    model = make("model", name, network)
    if model.numerics is Numerics.NONE:
        pytest.skip("has blocks, not times")
    integrate = Integrator(solver=make("solver", "rk4"), gradient=make("gradient", "backprop"))
    assert len(model.path(model.encode(inputs_for(setting)), TS, integrate, times=7)) == 7


@pytest.mark.parametrize("name", learners())
def test_a_model_that_uses_solvers_changes_with_them(make: Make, name: str, network: Network, setting: str) -> None:
    model, inputs, backprop = make("model", name, network), inputs_for(setting), make("gradient", "backprop")
    few, many = (
        model(inputs, TS, Integrator(solver=make("solver", "euler", num_steps=n), gradient=backprop)).values
        for n in (1, 8)
    )
    assert torch.equal(few, many) == (model.numerics is Numerics.NONE)


def test_a_model_that_returns_states_in_place_of_a_solution_is_told(make: Make, network: Network, setting: str) -> None:
    class Bare(ODENet):  # type: ignore[misc]
        def evolve(self, y0: Encoding, ts: Tensor, integrate: Integrate) -> Any:
            return integrate(self.field, y0, ts).ys

    integrate = Integrator(solver=make("solver", "rk4"), gradient=make("gradient", "backprop"))
    with pytest.raises(RefusedInput, match=r"Bare.evolve returned a Tensor.*Return Solution\(ys=states\)"):
        Bare(network)(inputs_for(setting), TS, integrate)

    class Last(ODENet):  # type: ignore[misc]
        def evolve(self, y0: Encoding, ts: Tensor, integrate: Integrate) -> Solution:
            return Solution(ys=integrate(self.field, y0, ts).ys[-1])

    with pytest.raises(
        RefusedInput, match=r"Last.evolve returned states \(\d+, .* for 2 times: they are \(time, batch"
    ):
        Last(network)(inputs_for(setting), TS, integrate)

    class Mode(GradientMode):
        exact = True

        def solve(self, solver: Solver, problem: Problem) -> Any:
            return solver.solve(problem.field, problem.y0, problem.ts).ys

    with pytest.raises(RefusedInput, match=r"Mode.solve returned a Tensor, and a gradient mode returns the Solution"):
        ODENet(network)(inputs_for(setting), TS, replace(integrate, gradient=Mode()))


def test_a_model_that_does_not_say_what_it_needs_is_told() -> None:
    class Unsaid(Model):
        evolve = ODENet.evolve

    with pytest.raises(RefusedInput, match=r"Unsaid does not say what it needs of numerics: numerics = Numerics.ANY"):
        Unsaid.unused_axes()


def test_a_model_that_writes_into_its_inputs_is_told(make: Make) -> None:
    """They are the data, of which validation reads the same in every epoch."""
    integrate = Integrator(solver=make("solver", "rk4"), gradient=make("gradient", "backprop"))
    model = ODENet(make("network", "mlp", MOONS, width=4))
    model.stem = nn.Sequential(nn.ReLU(inplace=True), model.stem)
    with pytest.raises(RefusedInput, match=r"ODENet writes into its inputs.* Write into inputs.clone\(\)"):
        model(torch.randn(3, 2), TS, integrate)


def test_augmented_states_begin_with_zeros(make: Make, network: Network, setting: str) -> None:
    model, inputs = Augmented(network, extra=4), inputs_for(setting)
    integrate = Integrator(solver=make("solver", "rk4"), gradient=make("gradient", "backprop"))
    first, last = model.evolve(Encoding(model.stem(inputs)), TS, integrate).ys
    width = model.stem(inputs).shape[1]
    assert first.shape[1] == width + 4
    assert not first[:, width:].any()
    assert last[:, width:].any()


@pytest.mark.parametrize("blocks", [0, 1, 4])
def test_a_resnet_has_as_many_blocks_as_asked_for(network: Network, setting: str, blocks: int) -> None:
    model = ResNet(network, blocks=blocks)
    assert len(model.path(model.encode(inputs_for(setting)), TS, never, times=3)) == blocks + 1


def test_senseless_options_of_models_are_refused(make: Make) -> None:
    network = make("network", "mlp", MOONS)
    with pytest.raises(RefusedInput, match="model.extra must be at least 1.*model=odenet"):
        make("model", "augmented", network, extra=0)
    with pytest.raises(RefusedInput, match="model.blocks must be 0 or more"):
        make("model", "resnet", network, blocks=-1)
