"""The ledger, and the fields that wrap another."""

import re
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import EachSample, Ledger, Phase, Tally
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integral import Integral, trace
from ode_runner.integrator import Integrator
from ode_runner.networks.linear import LinearField
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.types import State, Time
from tests.problems import Compose, Formula, SmallNet, build

MODES = [Backprop(), Adjoint(rtol=None, atol=None)]


class Turning(VectorField):
    """y' = y A, given in a type of its own."""

    def __init__(self, turn: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.turn, self.dtype = turn, dtype

    def forward(self, t: Time, y: State) -> State:
        return (y @ self.turn).to(self.dtype)


def evaluations(ledger: Ledger) -> dict[str, int]:
    return {phase.value: tally.evaluations for phase, tally in ledger.totals.items()}


def test_a_counted_field_is_the_field_and_one_entry_a_call() -> None:
    inner, ledger = SmallNet(), Ledger()
    field, y = CountedField(inner, ledger), torch.rand(2, 3)
    assert torch.equal(field(torch.tensor(0.5), y), inner(torch.tensor(0.5), y))
    field(torch.tensor(0.5), y)
    assert ledger.tally.evaluations == 2
    assert [p is q for p, q in zip(field.parameters(), inner.parameters(), strict=True)] == [True] * 5


def test_each_phase_keeps_its_own_account() -> None:
    ledger = Ledger()
    field = CountedField(Formula(lambda t, y: -y), ledger)
    for count, phase in enumerate(Phase, start=1):
        with ledger.phase(phase) as tally:
            for _ in range(count):
                field(torch.tensor(0.0), torch.ones(1))
        assert tally.evaluations == count
    assert evaluations(ledger) == {"forward": 1, "backward": 2, "evaluation": 3, "sampling": 4, "diagnostics": 5}


def test_phases_nest_without_leaking() -> None:
    ledger = Ledger()
    field = CountedField(Formula(lambda t, y: -y), ledger)
    with ledger.phase(Phase.FORWARD):
        field(torch.tensor(0.0), torch.ones(1))
        with ledger.phase(Phase.EVALUATION):
            field(torch.tensor(0.0), torch.ones(1))
        field(torch.tensor(0.0), torch.ones(1))
    expected = {"forward": 2, "backward": 0, "evaluation": 1, "sampling": 0, "diagnostics": 0}
    assert evaluations(ledger) == expected


def test_a_phase_that_fails_still_counts() -> None:
    ledger = Ledger()
    field = CountedField(Formula(lambda t, y: y @ torch.ones(7)), ledger)
    with pytest.raises(RuntimeError, match="mat"), ledger.phase(Phase.BACKWARD):
        field(torch.tensor(0.0), torch.ones(2, 3))
    assert ledger.totals[Phase.BACKWARD] == Tally(evaluations=1)
    assert ledger.tally is ledger.totals[Phase.DIAGNOSTICS]


def test_what_is_counted_outside_any_phase_is_diagnostics() -> None:
    ledger = Ledger()
    CountedField(Formula(lambda t, y: -y), ledger)(torch.tensor(0.0), torch.ones(1))
    assert evaluations(ledger) == {"forward": 0, "backward": 0, "evaluation": 0, "sampling": 0, "diagnostics": 1}


def test_a_ledger_survives_its_state() -> None:
    ledger, copy = Ledger(), Ledger()
    with ledger.phase(Phase.FORWARD) as tally:
        tally.add(Tally(evaluations=5, accepted=2, rejected=1))
    copy.load_state_dict(ledger.state_dict())
    assert copy.totals == ledger.totals
    with copy.phase(Phase.FORWARD) as tally:
        tally.evaluations += 1
    assert copy.totals[Phase.FORWARD].evaluations == 6
    assert ledger.totals[Phase.FORWARD].evaluations == 5


def test_tallies_add_up_and_keep_the_smallest_step() -> None:
    total = Tally(evaluations=1, accepted=2, rejected=3, products=4, smallest_step=0.5)
    total.add(Tally(evaluations=10, accepted=20, rejected=30, products=40, smallest_step=0.25))
    assert total == Tally(evaluations=11, accepted=22, rejected=33, products=44, smallest_step=0.25)
    total.add(Tally(evaluations=0.5, products=1))
    total.add(Tally(rejected=1))
    total.add(Tally(accepted=1, smallest_step=0.75))
    assert total == Tally(evaluations=11.5, accepted=23, rejected=34, products=45, smallest_step=0.25)


def test_the_sample_with_the_most_attempts_stands_for_all() -> None:
    counts = [torch.tensor(row) for row in ([5, 9, 8], [1, 4, 2], [0, 1, 4])]
    each = EachSample(evaluations=counts[0], accepted=counts[1], rejected=counts[2], failures={})
    assert each.most_attempts() == (2, 4)
    none = torch.zeros(0, dtype=torch.int64)
    assert EachSample(evaluations=none, accepted=none, rejected=none, failures={}).most_attempts() == (0, 0)


def test_a_derivative_of_another_shape_or_kind_is_named() -> None:
    for given, named in ((torch.ones(1, 2), "one of shape (1, 2)."), ([0.0, 0.0], "a list."), (0.0, "a float.")):
        field = CountedField(Formula(lambda t, y, given=given: given), Ledger())  # type: ignore[misc]
        with pytest.raises(RefusedInput, match=re.escape(f"of its state, a tensor (2, 2), and gave {named}")):
            field(torch.tensor(0.0), torch.ones(2, 2))
        integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Checkpoint())  # which looks at graphs
        with pytest.raises(RefusedInput, match=re.escape(f"and gave {named}")):
            integrate(Formula(lambda t, y, given=given: given), torch.ones(2, 2), torch.tensor([0.0, 1.0]))  # type: ignore[misc]


@pytest.mark.parametrize("solver", ["rk4", "dopri5", "kvaerno3", "radau_iia5", "reversible_heun"])
@pytest.mark.parametrize("each", [False, True])
def test_a_derivative_of_another_precision_is_one_of_the_states(composed: Compose, solver: str, each: bool) -> None:
    """Weights of its own are applied to the state again in the next stage, and solve for it in an implicit one."""
    if each and solver != "dopri5":
        pytest.skip("steps that all samples have in common")
    integrate = Integrator(
        solver=build(composed, "solver", solver, **({"per_sample": True} if each else {})), gradient=Backprop()
    )
    turn, ts = torch.tensor([[-0.5, 1.0], [-1.0, -0.5]]), torch.tensor([0.0, 0.5])
    expected = torch.ones(2, 2) @ torch.matrix_exp(turn / 2)
    for dtype in (torch.float64, torch.bfloat16, torch.float32):
        ys = integrate(Turning(turn, dtype), torch.ones(2, 2), ts).ys
        assert ys.dtype is torch.float32
        torch.testing.assert_close(ys[1], expected, atol=2e-2, rtol=0)
    with pytest.raises(RefusedInput, match=r"gave complex numbers \(torch.complex64\), and its state is real"):
        integrate(Turning(turn, torch.complex64), torch.ones(2, 2), ts)


def test_a_derivative_that_nobody_needs_is_freed() -> None:
    """Though a field of layers remembers of each how to push tangents through them."""
    penalty = Integral(lambda t, y, dy, vjp: dy[:, 0], judged=False)
    field = CountedField(LinearField(2), Ledger(), integrals={"price": penalty})
    dy = weakref.ref(field(torch.tensor(0.0), torch.ones(3, 2)))
    assert dy() is None


def test_a_trace_is_taken_by_the_pass_that_made_the_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    passes, linearize = list[Any](), LinearField.linearize
    monkeypatch.setattr(LinearField, "linearize", lambda *given: passes.append(given) or linearize(*given))
    net, t, y = LinearField(2), torch.tensor(0.0), torch.ones(3, 2)
    field = CountedField(net, Ledger(), integrals={"trace": Integral(lambda t, y, dy, vjp: trace(y, vjp), True)})
    dy = field(t, y)
    for derivative, count in ((dy, 1), (dy.clone(), 2)):  # of another tensor nothing is remembered
        torch.testing.assert_close(field.rates(t, y, derivative), net.theta.trace().expand(3, 1))
        assert len(passes) == count
    assert field.ledger.tally == Tally(evaluations=1, products=4)


@pytest.mark.parametrize("solver", ["rk4", "dopri5", "trapezoid"])
def test_a_field_that_writes_into_the_solve_is_refused(composed: Compose, solver: str) -> None:
    integrate, buffer = Integrator(solver=build(composed, "solver", solver), gradient=Backprop()), torch.zeros(2, 2)
    writing, keeping = Formula(lambda t, y: y.mul_(-1)), Formula(lambda t, y: buffer.copy_(-y))
    for field, says in ((writing, "writes into the state"), (keeping, "in which it gave the one before")):
        for y0 in (torch.ones(2, 2), torch.ones(2, 2, requires_grad=True)):
            with pytest.raises(RefusedInput, match=says):
                integrate(field, y0, torch.tensor([0.0, 1.0]))


def test_a_field_that_gives_one_tensor_again_and_again_is_right() -> None:
    rate, ts, y0 = torch.ones(2, 3), torch.tensor([0.0, 2.0]), torch.ones(2, 3)
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=Backprop())
    for field in (Formula(lambda t, y: rate), Formula(lambda t, y: rate[:1].expand_as(y)), Formula(lambda t, y: y)):
        with torch.inference_mode():
            inferred = integrate(field, torch.ones(2, 3), ts).ys
            assert torch.equal(integrate(field, y0, ts).ys, inferred), "a state made outside of inference mode"
        torch.testing.assert_close(integrate(field, torch.ones(2, 3), ts).ys, inferred)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_autocast_field_keeps_the_states_type(dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    net = SmallNet().to(dtype)
    net.inner.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    t, y = torch.tensor(0.5, dtype=dtype), torch.rand(2, 3, dtype=dtype)
    assert CountedField(net, Ledger(), dtype=torch.bfloat16)(t, y).dtype is dtype
    assert seen == [torch.bfloat16 if dtype is torch.float32 else dtype]  # autocast leaves float64 alone


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: type(mode).__name__)
def test_in_low_precision_every_parameter_still_learns(mode: GradientMode) -> None:
    net, ts = SmallNet(), torch.tensor([0.0, 1.0])
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=mode, field_dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):  # as the trainer has it around the whole model
        ys = integrate(net, torch.rand(2, 3), ts).ys
    ys.sum().backward()
    assert ys.dtype is torch.float32
    assert all(bool(p.grad.any()) for name, p in net.named_parameters() if name != "unused" and p.grad is not None)
    assert all(p.grad is not None for name, p in net.named_parameters() if name != "unused")


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: type(mode).__name__)
def test_an_integrator_solves_outside_of_autocast(mode: GradientMode) -> None:
    field, ts = Formula(lambda t, y: -y @ torch.eye(2)), torch.tensor([0.0, 1.0])
    integrate = Integrator(solver=RK4(num_steps=2, step_size=None), gradient=mode)
    with torch.autocast("cpu", torch.bfloat16):
        ys = integrate(field, torch.ones(1, 2, dtype=torch.bfloat16), ts).ys
    assert field.dtypes == {torch.float32}
    assert ys.dtype is torch.float32


def test_an_integrator_enters_evaluations_and_steps() -> None:
    integrate = Integrator(solver=RK4(num_steps=3, step_size=None), gradient=Backprop())
    with integrate.ledger.phase(Phase.FORWARD) as tally:
        integrate(SmallNet(), torch.rand(2, 3), torch.tensor([0.0, 1.0]))
    assert tally == Tally(evaluations=12, accepted=3)
