"""Tensors given to a field: every gradient mode differentiates by them as by parameters and by the initial state."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.integrator import Integrator
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.types import State, Time
from tests.pairs import PAIRS, Conditioned, ConditionedHalves, difference, is_slow, solver_of
from tests.problems import Compose, build

pytestmark = pytest.mark.usefixtures("float64")
TS = (0.0, 0.3, 0.6, 1.2)


def gradients(solver: Solver, mode: GradientMode, *, shared: bool = False) -> list[Tensor]:
    """Of y0, of the field's parameters, and of an encoder behind what is given."""
    torch.manual_seed(0)
    field: Any = Conditioned() if isinstance(Conditioned(), solver.fields) else ConditionedHalves()
    encoder, x = nn.Linear(3, 2), torch.randn(4, 3)
    y0 = torch.randn(4, 3 if isinstance(field, Conditioned) else 4, requires_grad=True)
    z = torch.tanh(encoder(x) + (field.layer.bias[:2] if shared else 0))
    w, k = torch.rand(4, 3) + 0.5, torch.tensor([1, 0, -1, 2])
    ys = Integrator(solver=solver, gradient=mode)(field, y0, torch.tensor(TS), given=(z, w, k)).ys
    loss = (ys * torch.linspace(0.5, 1.5, ys.numel()).view_as(ys)).sum()
    wanted = [y0, *field.parameters(), *encoder.parameters()]
    return list(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "pair", [pytest.param(p, marks=pytest.mark.slow if is_slow(p) else (), id="-".join(p)) for p in PAIRS]
)
def test_every_mode_differentiates_by_what_is_given(pair: tuple[str, str], composed: Compose) -> None:
    solver, mode = solver_of(pair[0], composed), build(composed, "gradient", pair[1])
    found, reference = gradients(solver, mode), gradients(solver, Backprop())
    assert float(found[-1].abs().max()) > 1e-3, "what is given has a gradient"
    limit = 1e-11 if mode.exact else 1e-4 if isinstance(solver, AdaptiveSolver) else 0.3
    assert difference(found, reference) < limit


@pytest.mark.parametrize("name", ["checkpoint", "symplectic", "forward", "adjoint", "seminorm", "interpolated"])
def test_what_is_given_may_share_a_graph_with_the_fields_parameters(name: str, composed: Compose) -> None:
    solver, mode = solver_of("dopri5", composed), build(composed, "gradient", name)
    found, reference = gradients(solver, mode, shared=True), gradients(solver, Backprop(), shared=True)
    assert difference(found, reference) < (1e-11 if mode.exact else 1e-4)


@pytest.mark.parametrize("name", ["backprop", "checkpoint", "symplectic", "forward", "adjoint", "interpolated"])
def test_states_and_what_is_given_may_be_expanded_over_the_batch(name: str, composed: Compose) -> None:
    torch.manual_seed(0)
    field, y0, z = Conditioned(), torch.randn(1, 3, requires_grad=True), torch.randn(1, 2, requires_grad=True)
    others = (torch.rand(4, 3) + 0.5, torch.tensor([1, 0, -1, 2]))
    integrate = Integrator(solver=solver_of("dopri5", composed), gradient=build(composed, "gradient", name))
    found = []
    for begin, given in ((y0.expand(4, 3), z.expand(4, 2)), (y0.repeat(4, 1), z.repeat(4, 1))):
        ys = integrate(field, begin, torch.tensor(TS), given=(given, *others)).ys
        found.append(list(torch.autograd.grad(ys.square().sum(), [y0, z])))
    assert difference(*found) < 1e-11


@pytest.mark.parametrize("name", ["backprop", "checkpoint"])
@pytest.mark.parametrize("solver", ["dopri5", "dopri8"])
def test_samples_that_step_on_their_own_take_rows_of_their_own(name: str, solver: str, composed: Compose) -> None:
    apart = solver_of(solver, composed, per_sample=True)
    found = gradients(apart, build(composed, "gradient", name))
    assert difference(found, gradients(solver_of(solver, composed), Backprop())) < 1e-5
    assert difference(found, gradients(apart, Backprop())) < 1e-11


def test_scipys_solvers_take_what_is_given(composed: Compose) -> None:
    torch.manual_seed(0)
    field, encoder, x, y0 = Conditioned(), nn.Linear(3, 2), torch.randn(4, 3), torch.randn(4, 3)
    w, k = torch.rand(4, 3) + 0.5, torch.tensor([1, 0, -1, 2])
    found = []
    for name, mode in (("lsoda", "adjoint"), ("dopri8", "backprop")):
        solver = build(composed, "solver", name, rtol=1e-9, atol=1e-9)
        integrate = Integrator(solver=solver, gradient=build(composed, "gradient", mode))
        ys = integrate(field, y0, torch.tensor(TS), given=(encoder(x), w, k)).ys
        found.append(list(torch.autograd.grad(ys.sum(), encoder.parameters())))
    assert difference(*found) < 1e-5


class Kind(VectorField):
    """A kind of field of one's own, with two calls: what a stochastic solver asks for."""

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "slope": 0.5, "spread": 0.5}

    def slope(self, t: Time, y: State) -> State:
        raise NotImplementedError

    def spread(self, t: Time, y: State) -> State:
        raise NotImplementedError

    def forward(self, t: Time, y: State) -> State:
        return self.slope(t, y)


class Mine(Kind):
    def slope(self, t: Time, y: State) -> State:
        return -y @ torch.ones(2, 2, dtype=y.dtype)

    def spread(self, t: Time, y: State) -> State:
        return y @ torch.ones(2, 2, dtype=y.dtype)


def test_a_kind_of_field_of_ones_own_is_counted_and_lowered_as_it_declares() -> None:
    ledger, y = Ledger(), torch.rand(3, 2, dtype=torch.float32)
    counted: Any = CountedField.around(Mine(), ledger, dtype=torch.bfloat16)
    assert isinstance(counted, Kind)
    counted.slope(torch.tensor(0.0), y)
    assert ledger.tally.evaluations == 0.5
    found = counted.spread(torch.tensor(0.0), y)
    assert found.dtype is torch.float32
    assert torch.equal(found, found.bfloat16().float()), "it was computed in less"
    counted(torch.tensor(0.0), y)
    assert ledger.tally.evaluations == 2


@pytest.mark.parametrize("given", [torch.ones(3, 2), torch.tensor(1.0), [1.0, 2.0, 3.0, 4.0]])
def test_what_is_given_has_a_row_for_every_sample(given: Any) -> None:
    integrate = Integrator(solver=Dopri5(rtol=1e-3, atol=1e-3, max_steps=10), gradient=Backprop())
    with pytest.raises(RefusedInput, match="has a row for every sample of the state"):
        integrate(Conditioned(), torch.ones(4, 3), torch.tensor(TS), given=(given,))


def test_the_refusal_of_a_tensor_with_a_history_says_how_to_hand_it_over(composed: Compose) -> None:
    class Closing(VectorField):
        def forward(self, t: Time, y: State) -> State:
            return -y * self.z

    field = Closing()
    field.z = nn.Linear(2, 3)(torch.ones(4, 2))
    integrate = Integrator(solver=solver_of("dopri5", composed), gradient=build(composed, "gradient", "checkpoint"))
    with pytest.raises(IncompatibleChoice, match=r"integrate\(field, y0, ts, given=\(tensor,\)\)"):
        integrate(field, torch.ones(4, 3), torch.tensor(TS))


class Labelled(VectorField):
    """dy/dt = rate[label] y, where the rates are not learned."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.tensor([-1.0, -2.0]), requires_grad=False)

    def forward(self, t: Time, y: State, labels: Tensor) -> State:
        return self.rates[labels][:, None] * y


@pytest.mark.parametrize("mode", ["checkpoint", "symplectic", "interpolated", "adjoint", "seminorm"])
def test_what_a_backward_pass_reads_again_must_not_change_before_it(mode: str, composed: Compose) -> None:
    integrate = Integrator(
        solver=Dopri5(rtol=1e-3, atol=1e-3, max_steps=100), gradient=build(composed, "gradient", mode)
    )
    for changed in ("labels", "rates"):
        field, labels, y0 = Labelled(), torch.tensor([0, 1]), torch.ones(2, 1, requires_grad=True)
        ys = integrate(field, y0, torch.tensor([0.0, 1.0]), given=(labels,)).ys
        (labels if changed == "labels" else field.rates).mul_(0)
        with pytest.raises(RefusedInput, match="written into between the solve and its backward pass"):
            ys.sum().backward()


@pytest.mark.parametrize("mode", ["checkpoint", "interpolated", "adjoint", "seminorm"])
def test_times_may_be_written_into_after_a_solve(mode: str, composed: Compose) -> None:
    integrate = Integrator(
        solver=Dopri5(rtol=1e-3, atol=1e-3, max_steps=100), gradient=build(composed, "gradient", mode)
    )
    found = []
    for factor in (1.0, 3.0):
        ts, y0 = torch.tensor([0.0, 0.5, 1.0]), torch.ones(2, 1, requires_grad=True)
        ys = integrate(Labelled(), y0, ts, given=(torch.tensor([0, 1]),)).ys
        ts.mul_(factor)
        found += torch.autograd.grad(ys.sum(), y0)
    assert torch.equal(*found)
