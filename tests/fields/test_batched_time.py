"""Fields at a time for each sample: t of shape (batch,) where they declare it, by torch.vmap where they do not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ode_runner.building.instantiate import construct
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField, broadcast_time
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.tasks.base import TaskSpec
from ode_runner.types import State, Time
from tests.helpers import options
from tests.problems import Compose, build, named_class

pytestmark = pytest.mark.usefixtures("float64")

SPECS = [
    TaskSpec(input_shape=(4,), output_shape=(4,)),
    TaskSpec(input_shape=(1, 12, 12), output_shape=(3,)),
    TaskSpec(input_shape=(5, 4), output_shape=(2,), every_time=True, sequence=True),
    TaskSpec(input_shape=(5, 4), output_shape=(2,), sequence=True),
]
TASKS = ["linear", "lotka_volterra", "pendulum"]
EACH = Dopri5(rtol=1e-6, atol=1e-6, max_steps=1000, per_sample=True)
TIMES = torch.tensor([0.0, 0.4, 1.0])


def field_of(composed: Compose, network: str) -> tuple[VectorField, tuple[int, ...]]:
    """A network's field and the shape of its state, for the first task that it takes."""
    for spec in SPECS:
        try:
            made = build(composed, "network", network, spec)
            stem, field = made.stem().eval(), made.field()
        except IncompatibleChoice:
            continue
        begun = stem(torch.ones(1, *spec.input_shape))
        return field, tuple(getattr(begun, "y0", begun).shape[1:])
    pytest.skip("the network has no field")


def assert_takes_batched_time(field: VectorField, shape: tuple[int, ...]) -> None:
    assert field.batched_time
    ts, y = torch.linspace(-1.0, 2.0, 7), torch.rand(7, *shape) + 0.5
    apart = torch.cat([field(t, y[i : i + 1]) for i, t in enumerate(ts)])
    torch.testing.assert_close(field(ts, y), apart, rtol=1e-12, atol=1e-12)
    together = field(ts[0], y)
    torch.testing.assert_close(together, field(ts[:1].expand(7), y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("network", options("network"))
def test_the_field_of_every_network_takes_a_time_for_each_sample(composed: Compose, network: str) -> None:
    assert_takes_batched_time(*field_of(composed, network))


@pytest.mark.parametrize("network", options("network"))
def test_a_network_s_field_declares_what_it_takes_so_that_it_passes_the_check(composed: Compose, network: str) -> None:
    field, shape = field_of(composed, network)
    EACH.solve(field, torch.rand(5, *shape), TIMES)
    assert field.batched_time_checked


@pytest.mark.parametrize("task", TASKS)
def test_the_true_field_of_every_task_takes_a_time_for_each_sample(composed: Compose, task: str) -> None:
    options = composed(f"task={task}")
    field = construct(options, "task", seed=0, device=torch.device("cpu")).true_field()
    assert_takes_batched_time(field, (2,))


def test_the_tasks_with_a_true_field_are_among_those_tested() -> None:
    """Fields of events and of noise have tests of their own."""
    assert set(TASKS) <= {name for name in options("task") if hasattr(named_class("task", name), "true_field")}


def test_time_is_shaped_for_any_state() -> None:
    y = torch.ones(3, 2, 4, 4)
    assert broadcast_time(torch.tensor(2.0), y).shape == ()
    assert broadcast_time(torch.arange(3.0), y).shape == (3, 1, 1, 1)
    assert broadcast_time(torch.arange(3.0), y[:, 0, 0, 0]).shape == (3,)


class Declared(VectorField):
    """A function of time and state that claims to take a time for each sample."""

    batched_time = True

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.tensor(1.3))
        self.times: list[tuple[int, ...]] = []

    def forward(self, t: Time, y: State) -> State:
        self.times.append(tuple(t.shape))
        return self.weight * self.function(t, y)


class Undeclared(Declared):
    """The same, which claims nothing."""

    batched_time = False


def right(t: Tensor, y: Tensor) -> Tensor:
    return -y * broadcast_time(t, y)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda t, y: -y * t, (16, 16)),  # no error, and every column at another time
        (lambda t, y: -y * t, (40, 16)),
        (lambda t, y: -y * t, (16, 2)),  # an error, of shapes
        (lambda t, y: -y * t, (40, 1)),  # another shape
        (lambda t, y: -y * t.mean(), (16, 16)),
        (lambda t, y: -y * t[:1] if t.dim() else -y * t, (16, 16)),
        (lambda t, y: -y * (1 + 1e-4 * t), (16, 16)),
    ],
)
def test_a_field_that_declares_wrongly_is_refused_by_name(
    function: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, int]
) -> None:
    field = Declared(function)
    with pytest.raises(IncompatibleChoice, match=r"^Declared declares batched_time, .*broadcast_time\(t, y\)"):
        Integrator(solver=EACH, gradient=Backprop())(field, torch.randn(*shape), TIMES)
    assert not field.batched_time_checked


def test_without_the_declaration_the_same_field_is_mapped_and_right() -> None:
    y0, field = torch.randn(16, 16), Undeclared(lambda t, y: -y * t)
    ys = EACH.solve(field, y0, TIMES).ys
    torch.testing.assert_close(ys[-1], y0 * torch.exp(torch.tensor(-1.3 / 2)), rtol=1e-5, atol=1e-5)
    assert set(field.times) == {()}


@pytest.mark.parametrize("mode", [Backprop(), Checkpoint()], ids=["backprop", "checkpoint"])
def test_declared_and_mapped_fields_have_one_solution_gradient_and_count(mode: GradientMode) -> None:
    found = []
    for kind in (Declared, Undeclared):
        integrate, field = Integrator(solver=EACH, gradient=mode), kind(right)
        y0 = torch.linspace(-3, 3, 40).view(20, 2).requires_grad_()
        ys = integrate(field, y0, TIMES).ys
        gradients = torch.autograd.grad(ys.square().sum(), [y0, field.weight])
        found.append([ys, *gradients, torch.tensor(integrate.ledger.tally.evaluations)])
    for declared, mapped in zip(*found, strict=True):
        torch.testing.assert_close(declared, mapped, rtol=1e-13, atol=1e-13)


def test_the_declaration_is_checked_once_and_not_in_the_ledger() -> None:
    field, counted = Declared(right), []
    for _ in range(2):
        wrapped = CountedField(field, Ledger())
        EACH.solve(wrapped, torch.randn(20, 2), TIMES)
        counted.append(len(field.times) - wrapped.ledger.tally.evaluations)
        field.times.clear()
    assert counted == [3, 0]


def test_the_check_moves_neither_random_numbers_nor_buffers() -> None:
    class Drawing(Declared):
        def forward(self, t: Time, y: State) -> State:
            self.calls += 1
            return super().forward(t, y) * (1 + 0 * torch.rand(()))

    field = Drawing(right)
    field.register_buffer("calls", torch.zeros(()))
    torch.manual_seed(0)
    drawn = torch.get_rng_state()
    MappedField(field).check_declared(TIMES[:2], torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(drawn, torch.get_rng_state())
    assert field.calls == 0


def test_a_counted_field_takes_what_the_field_in_it_takes() -> None:
    assert CountedField.around(Declared(right), Ledger()).batched_time
    assert not CountedField.around(Undeclared(right), Ledger()).batched_time


@pytest.mark.parametrize("rows", [17, 100, 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("network", ["mlp", "conv", "linear", "separable"])
def test_a_row_is_rounded_the_same_in_any_company(
    composed: Compose, network: str, rows: int, dtype: torch.dtype
) -> None:
    field, shape = field_of(composed, network)
    y, ts = torch.randn(rows, *shape, dtype=dtype), torch.rand(rows, dtype=dtype)
    mapped = MappedField(field.to(dtype))
    alone = torch.cat([mapped(ts[i : i + 1], y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(mapped(ts, y)[:5], alone, rtol=8 * torch.finfo(dtype).eps, atol=0)
