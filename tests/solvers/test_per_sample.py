"""Steps of each sample's own: alone or in company, a solution is the same."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ode_runner.compatibility import check_compatible
from ode_runner.errors import IncompatibleChoice, SolverFailed
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.models.depth.odenet import ODENet
from ode_runner.networks.conv import ConvField
from ode_runner.networks.dense import MLPField
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.mapped_field import LEAST
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.types import State, Time
from tests.helpers import options
from tests.problems import PROBLEMS, Compose, Formula, SmallNet, build, named_class, offering, slope, solve_by

pytestmark = pytest.mark.usefixtures("float64")

EACH = offering(PerSampleStepping)
each_pair = pytest.mark.parametrize("name", EACH)
FORWARDS, BACKWARDS = (0.0, 0.3, 0.31, 2.0), (2.0, 1.1, 0.0)
each_mode = pytest.mark.parametrize("mode", [Backprop(), Checkpoint()], ids=["backprop", "checkpoint"])
each_way = pytest.mark.parametrize("times", [FORWARDS, BACKWARDS], ids=["forwards", "backwards"])
forwards_first = pytest.mark.parametrize(
    "times", [FORWARDS, pytest.param(BACKWARDS, marks=pytest.mark.slow)], ids=["forwards", "backwards"]
)


class Elementwise(VectorField):
    """A function of time and state in which no element knows of another; counts its calls."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.calls = function, 0

    def forward(self, t: Time, y: State) -> State:
        self.calls += 1
        return self.function(t, y)


def oscillating() -> Elementwise:
    return Elementwise(lambda t, y: y * torch.cos(3 * t) * torch.tensor([1.0, 4.0], dtype=y.dtype))


def of_unequal_sizes() -> Tensor:
    """Beginnings for which step control has anything but the same to do."""
    sizes = torch.tensor([1.0, 1e-3, 1e3, 1.0, 0.1, 30.0])
    return torch.randn(len(sizes), 2) * sizes[:, None]


@pytest.fixture
def solver(composed: Compose, name: str) -> PerSampleStepping:
    return build(composed, "solver", name, rtol=1e-3, atol=1e-3, max_steps=100_000, per_sample=True)


def alone(solver: PerSampleStepping, field: VectorField, y0: Tensor, ts: Tensor) -> list[Any]:
    return [solver.solve(field, y0[i : i + 1], ts) for i in range(len(y0))]


@pytest.mark.sampled(4)
@each_pair
@each_way
def test_a_solution_is_the_same_to_the_bit_alone_and_in_company(
    solver: PerSampleStepping, times: tuple[float, ...]
) -> None:
    """Where the field itself rounds the same in any batch."""
    y0, ts = of_unequal_sizes(), torch.tensor(times)
    together = solver.solve(oscillating(), y0, ts)
    singles = alone(solver, oscillating(), y0, ts)
    assert torch.equal(together.ys, torch.cat([one.ys for one in singles], dim=1))
    for count in ("evaluations", "accepted", "rejected"):
        assert getattr(together.each, count).tolist() == [int(getattr(one.each, count)) for one in singles]
    assert len(set(together.each.evaluations.tolist())) > 1, "the samples are alike, and the test shows nothing"


@each_pair
@pytest.mark.parametrize("make", [lambda: SmallNet(2), lambda: MLPField([2, 16, 2], time=True)], ids=["tanh", "mlp"])
def test_a_network_solves_a_sample_the_same_to_rounding_in_any_company(
    solver: PerSampleStepping, make: Callable[[], VectorField]
) -> None:
    field, y0, ts = make(), of_unequal_sizes(), torch.tensor(FORWARDS)
    together, singles = solver.solve(field, y0, ts), alone(solver, field, y0, ts)
    apart = torch.cat([one.ys for one in singles], dim=1)
    torch.testing.assert_close(together.ys, apart, rtol=1e-9, atol=1e-9)  # a product's sums, in steps chosen by them
    assert together.each.evaluations.tolist() == [int(one.each.evaluations) for one in singles]


def test_images_with_group_norm_are_solved_the_same_in_any_company(composed: Compose) -> None:
    solver = build(composed, "solver", "dopri5", rtol=1e-4, atol=1e-4, per_sample=True)
    field, y0, ts = ConvField(4, 2), torch.randn(5, 4, 3, 3), torch.tensor([0.0, 1.0])
    together, singles = solver.solve(field, y0, ts), alone(solver, field, y0, ts)
    torch.testing.assert_close(together.ys, torch.cat([one.ys for one in singles], dim=1), rtol=1e-9, atol=1e-9)


@pytest.mark.sampled(18)
@each_pair
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_a_batch_of_one_takes_the_steps_of_whole_batch_control(
    solver: PerSampleStepping, problem: str, backwards: bool
) -> None:
    posed = PROBLEMS[problem]()
    ts = posed.times(0.1234, 0.5, 0.5005, 0.77, backwards=backwards)
    y0, field, other = posed.solution(ts)[0][:1], Elementwise(posed.function), Elementwise(posed.function)
    found = solver.solve(field, y0, ts)
    expected = replace(solver, per_sample=False).solve(other, y0, ts)
    assert (found.accepted, found.rejected, field.calls) == (expected.accepted, expected.rejected, other.calls)
    assert found.each.evaluations.tolist() == [field.calls]
    torch.testing.assert_close(found.ys, expected.ys, rtol=1e-6, atol=1e-6)  # steps chosen by errors near rounding


@pytest.mark.sampled(3)
@each_pair
@pytest.mark.parametrize("options", [{"control": "pid"}, {"max_step": 0.05}, {"first_step": 0.01}], ids=str)
def test_options_of_step_control_hold_for_each_sample(solver: PerSampleStepping, options: dict[str, Any]) -> None:
    solver, ts = replace(solver, **options), torch.tensor(FORWARDS)
    for y in of_unequal_sizes()[:3]:
        field = oscillating()
        found = solver.solve(field, y[None], ts)
        expected = replace(solver, per_sample=False).solve(oscillating(), y[None], ts)
        assert (found.accepted, found.rejected) == (expected.accepted, expected.rejected)
        assert found.each.evaluations.tolist() == [field.calls]


@pytest.mark.sampled(2)
@each_pair
def test_error_falls_with_the_tolerance(solver: PerSampleStepping) -> None:
    ts = torch.tensor([0.0, 0.7, 2.0])
    y0, errors = of_unequal_sizes(), []
    exact = y0 * torch.exp(torch.sin(3 * ts)[:, None, None] / 3 * torch.tensor([1.0, 4.0]))
    tolerances = [1e-3, 1e-4, 1e-5, 1e-6] if solver.order > 2 else [1e-2, 1e-3, 1e-4]
    for tolerance in tolerances:
        ys = replace(solver, rtol=tolerance, atol=tolerance).solve(oscillating(), y0, ts).ys
        errors.append(float(((ys - exact).abs() / (1 + exact.abs())).max()))
    assert slope(tolerances, errors) > 0.5  # as for the whole batch, in test_solvers.py


@each_pair
def test_as_many_calls_as_the_hardest_sample_needs(solver: PerSampleStepping) -> None:
    field = CountedField(oscillating(), Ledger())
    found = solver.solve(field, of_unequal_sizes(), torch.tensor(FORWARDS))
    calls, attempts = field.ledger.tally.evaluations, found.accepted + found.rejected
    least = (1 - solver.tableau.first_same_as_last) * found.accepted
    most = attempts * (1 + len(solver.tableau.extra_stages))  # f(t1, y1) and the places of another's step
    assert 0 <= calls - 2 - (len(solver.tableau.b) - 1) * attempts - least <= most
    assert calls >= int(found.each.evaluations.max())


@pytest.mark.sampled(2)
@each_pair
def test_a_stiff_sample_costs_an_easy_one_nothing(solver: PerSampleStepping) -> None:
    field = Elementwise(lambda t, y: -y * torch.tensor([1.0, 0.0]) - y[..., 1:] * y * torch.tensor([1.0, 0.0]))
    easy, stiff, ts = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 300.0]]), torch.tensor([0.0, 1.0])
    by_itself = solver.solve(field, easy, ts)
    beside = solver.solve(field, torch.cat([stiff, easy]), ts)
    assert beside.each.evaluations[1] == by_itself.each.evaluations[0] < beside.each.evaluations[0] / 3
    assert torch.equal(beside.ys[:, 1], by_itself.ys[:, 0])
    common = replace(solver, per_sample=False).solve(field, torch.cat([stiff, easy]), ts)
    assert common.accepted > by_itself.accepted


@each_pair
def test_every_sample_may_have_times_of_its_own(solver: PerSampleStepping) -> None:
    y0 = of_unequal_sizes()[:4]
    ts = torch.tensor([[0.0, 2.0, 1.0, 0.5], [0.4, 1.5, 1.7, 0.5], [2.0, 0.0, 1.9, 0.5]])  # the last one rests
    found = solver.solve_each(oscillating(), y0, ts)
    for i in range(3):
        assert torch.equal(found.ys[:, i], solver.solve(oscillating(), y0[i : i + 1], ts[:, i]).ys[:, 0])
    assert torch.equal(found.ys[:, 3], y0[3].expand(3, 2))
    assert (found.each.evaluations[3], found.each.accepted[3]) == (0, 0)


@each_pair
def test_one_time_point_is_the_beginning_and_costs_nothing(solver: PerSampleStepping) -> None:
    field = oscillating()
    found = solver.solve(field, torch.ones(3, 2), torch.tensor([0.3]))
    assert torch.equal(found.ys, torch.ones(1, 3, 2))
    assert (found.accepted, field.calls, found.each.evaluations.tolist()) == (0, 0, [0, 0, 0])


@each_pair
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_field_sees_time_and_state_in_the_states_type(solver: PerSampleStepping, dtype: torch.dtype) -> None:
    seen: set[torch.dtype] = set()

    def function(t: Tensor, y: Tensor) -> Tensor:
        seen.update({t.dtype, y.dtype})
        return -y * t

    ts = torch.tensor([0.0, 0.4, 1.0], dtype=dtype)
    ys = solver.solve(Elementwise(function), torch.ones(2, 3, dtype=dtype), ts).ys
    assert (seen, ys.dtype) == ({dtype}, dtype)
    torch.testing.assert_close(
        ys[-1], torch.full_like(ys[-1], math.exp(-0.5)), rtol=0, atol=0.1
    )  # a blind pair at 1e-3


@each_pair
@each_way
def test_no_sample_is_evaluated_beyond_its_span(solver: PerSampleStepping, times: tuple[float, ...]) -> None:
    """sqrt of the time that is left has no value beyond the end."""
    end, sign = times[-1], 1 if times[-1] > times[0] else -1
    field = Elementwise(lambda t, y: torch.sqrt(sign * (end - t)) * torch.ones_like(y))
    ys = solver.solve(field, torch.tensor([[0.0], [5.0]]), torch.tensor(times)).ys
    expected = sign * 2 / 3 * abs(end - times[0]) ** 1.5
    torch.testing.assert_close(ys[-1], torch.tensor([[expected], [5 + expected]]), rtol=0.2, atol=0)  # no order there


def weighed(ys: Tensor) -> Tensor:
    weights = torch.linspace(-1, 2, ys.numel()).view_as(ys)
    return (weights * torch.sin(ys)).sum()


@pytest.mark.sampled(2)
@each_pair
@forwards_first
def test_the_gradient_is_that_of_finite_differences(solver: PerSampleStepping, times: tuple[float, ...]) -> None:
    """On steps that are held fixed: whatever their error, all of `max_step` are accepted."""
    fixed = replace(solver, rtol=1e3, atol=1e3, first_step=1.0, max_step=1.0)
    net, ts = SmallNet(2, width=2), torch.tensor(times)

    def function(y0: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(dict(net.named_parameters()), parameters, strict=True))
        field = Elementwise(lambda t, y: torch.func.functional_call(net, named, (t, y)))
        return fixed.solve(field, y0, ts).ys

    y0 = torch.randn(2, 2, requires_grad=True)
    assert torch.autograd.gradcheck(function, (y0, *net.parameters()))


@pytest.mark.sampled(2)
@each_pair
@each_mode
@forwards_first
def test_the_gradient_is_the_sum_of_what_samples_give_alone(
    solver: PerSampleStepping, mode: GradientMode, times: tuple[float, ...]
) -> None:
    """With steps rejected and outputs within steps; alone under its own control, and under that of whole batches."""
    weight = torch.nn.Parameter(torch.tensor([1.5, -0.7]))
    field = Elementwise(lambda t, y: torch.tanh(y * weight * torch.where(t > 0.7, 9.0, 0.5)) - y)
    field.weight = weight
    y0, ts, solver = of_unequal_sizes().requires_grad_(), torch.tensor(times), replace(solver, rtol=1e-4, atol=1e-4)
    found = solve_by(mode, solver, CountedField(field, Ledger()), y0, ts)
    assert found.each.rejected.any()
    gradients = torch.autograd.grad(weighed(found.ys), [y0, weight])
    whole = replace(solver, per_sample=False)
    for other, within in ((solver, 1e-12), (whole, 1e-6)):  # sums in another order; steps chosen by rounding in errors
        apart = [other.solve(field, y0[i : i + 1], ts).ys for i in range(len(y0))]
        expected = torch.autograd.grad(weighed(torch.cat(apart, dim=1)), [y0, weight])
        for one, right in zip(gradients, expected, strict=True):
            torch.testing.assert_close(one, right, rtol=within, atol=within)


@each_pair
@each_mode
def test_an_attempt_that_met_nan_leaves_none_in_the_gradient(solver: PerSampleStepping, mode: GradientMode) -> None:
    weight, met = torch.nn.Parameter(torch.tensor(20.0)), []

    def function(t: Tensor, y: Tensor) -> Tensor:
        return torch.log(y) - weight * (y - 0.5)  # too long a step makes y negative

    def noticing(t: Tensor, y: Tensor) -> Tensor:
        met.append(bool((y < 0).any()))
        return function(t, y)

    far = replace(solver, first_step=1.0)
    calm, ts = 0.4613, torch.tensor([0.0, 1.0])  # would go on while the others have to try again
    y0 = torch.tensor([[1.0], [3.0], [0.6], [calm]], requires_grad=True)
    field = Elementwise(function)
    field.weight = weight
    found = solve_by(mode, far, CountedField(field, Ledger()), y0, ts)
    common = replace(far, per_sample=False)
    apart = torch.cat([common.solve(Elementwise(noticing), y0[i : i + 1], ts).ys for i in range(4)], dim=1)
    assert any(met)
    for one, other in zip(
        torch.autograd.grad(weighed(found.ys), [y0, weight]),
        torch.autograd.grad(weighed(apart), [y0, weight]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)  # sums in another order


@pytest.mark.sampled(4)
@each_pair
@pytest.mark.parametrize("onset", [0.0, 0.4], ids=["at once", "later"])
def test_nan_in_one_sample_names_it_and_stops_nobody_else(solver: PerSampleStepping, onset: float) -> None:
    field = Elementwise(lambda t, y: torch.where((t >= onset) & (y > 10), torch.nan, -0.1 * y))
    y0, ts = torch.tensor([[1.0], [2.0], [100.0], [3.0]]), torch.tensor([0.0, 0.2, 1.0])
    with pytest.raises(SolverFailed, match=r"^sample 2 of 4: .*stopped at t=.*field returned NaN or infinity\.$"):
        solver.solve(field, y0, ts)
    found = solver.solve_each(field, y0, ts[:, None].expand(-1, 4))
    assert list(found.each.failures) == [2]
    assert found.ys[:, 2].isnan().flatten().tolist() == [False, onset == 0, True]
    others = torch.tensor([0, 1, 3])
    assert torch.equal(found.ys[:, others], solver.solve(field, y0[others], ts).ys)


@each_pair
def test_the_step_limit_is_each_samples_own(solver: PerSampleStepping) -> None:
    y0, ts = of_unequal_sizes(), torch.tensor(FORWARDS)
    taken = solver.solve(oscillating(), y0, ts).each
    attempts = taken.accepted + taken.rejected
    assert replace(solver, max_steps=int(attempts.max())).solve(oscillating(), y0, ts).ys.isfinite().all()
    few = replace(solver, max_steps=int(attempts.max()) - 1)
    too_hard = (attempts == attempts.max()).nonzero().flatten().tolist()
    with pytest.raises(
        SolverFailed, match=rf"^sample {too_hard[0]} of 6: .*limit solver.max_steps={few.max_steps} was"
    ):
        few.solve(oscillating(), y0, ts)
    assert list(few.solve_each(oscillating(), y0, ts[:, None].expand(-1, 6)).each.failures) == too_hard


class RowsOfACall(torch.autograd.Function):
    """Passes a state on, and notes how many rows it is asked about at once."""

    seen: ClassVar[list[int]] = []

    @staticmethod
    def forward(y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(info: Any, in_dims: Any, y: Tensor) -> tuple[Tensor, int]:
        RowsOfACall.seen.append(info.batch_size)
        return y.clone(), in_dims[0]


@pytest.mark.parametrize("samples", [1, 3, LEAST, LEAST + 1])
def test_a_call_has_so_many_rows_that_matrix_products_round_as_they_do_in_company(samples: int) -> None:
    solver = Dopri5(rtol=1e-3, atol=1e-3, max_steps=100, per_sample=True)
    RowsOfACall.seen.clear()
    y0 = torch.randn(samples, 2)
    field = Elementwise(lambda t, y: -RowsOfACall.apply(y))
    ys = solver.solve(field, y0, torch.tensor([0.0, 1.0])).ys
    assert min(RowsOfACall.seen) == max(samples, LEAST)
    torch.testing.assert_close(ys[-1], y0 / math.e, rtol=1e-3, atol=1e-3)  # the solver's tolerance


def test_a_field_that_cannot_be_mapped_is_refused_in_one_line() -> None:
    solver = Dopri5(rtol=1e-3, atol=1e-3, max_steps=100, per_sample=True)
    field = CountedField(Formula(lambda t, y: -y), Ledger())  # asks for the time as a number
    with pytest.raises(IncompatibleChoice, match=r"vmap, which Formula does not allow .*solver\.per_sample=false") as e:
        solver.solve(field, torch.ones(2, 1), torch.tensor([0.0, 1.0]))
    assert "\n" not in str(e.value)


def test_a_failure_that_has_to_do_with_the_batch_is_not_laid_to_the_mapping() -> None:
    def exhausting(t: Tensor, y: Tensor) -> Tensor:
        nonlocal room
        room -= 1
        if room < 0:
            room = 10
            raise torch.OutOfMemoryError("out of memory")
        return -y

    room, solver = 3, Dopri5(rtol=1e-3, atol=1e-3, max_steps=100, per_sample=True)
    with pytest.raises(torch.OutOfMemoryError):
        solver.solve(Elementwise(exhausting), torch.ones(2, 2), torch.tensor([0.0, 1.0]))


def test_a_field_that_fails_by_itself_says_why() -> None:
    solver = Dopri5(rtol=1e-3, atol=1e-3, max_steps=100, per_sample=True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        solver.solve(SmallNet(3), torch.ones(2, 2), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("gradient", options("gradient"))
def test_a_gradient_mode_follows_every_samples_steps_or_is_refused(composed: Compose, gradient: str) -> None:
    choices, solver = (
        {"model": "odenet", "solver": "dopri5", "gradient": gradient},
        build(composed, "solver", "dopri5", per_sample=True),
    )
    if not named_class("gradient", gradient).takes(Dopri5):
        pytest.skip("does not take the solver as it is")
    if named_class("gradient", gradient).each_sample:
        check_compatible(choices, ODENet, solver, build(composed, "gradient", gradient))
        return
    with pytest.raises(IncompatibleChoice, match=rf"gradient={gradient} .*Use gradient=backprop or checkpoint"):
        check_compatible(choices, ODENet, solver, build(composed, "gradient", gradient))


def test_the_ledger_shows_what_each_sample_took_to_whom_it_concerns() -> None:
    solver = Dopri5(rtol=1e-4, atol=1e-4, max_steps=100, per_sample=True)
    integrate, ts = Integrator(solver=solver, gradient=Backprop()), torch.tensor(FORWARDS)
    y0 = of_unequal_sizes()
    with integrate.ledger.phase(Phase.FORWARD) as tally, integrate.ledger.each_sample() as each:
        integrate(oscillating(), y0, ts)
    integrate(oscillating(), y0, ts)
    [counts] = each
    assert (counts.accepted + counts.rejected).max() == tally.accepted + tally.rejected
    assert counts.evaluations.max() == tally.evaluations


@each_pair
@pytest.mark.parametrize("times", [(0.5,), (0.5, 0.5, 0.5)], ids=["one", "three"])
@each_mode
def test_no_time_has_the_gradient_of_the_beginning(
    solver: PerSampleStepping, mode: GradientMode, times: tuple[float, ...]
) -> None:
    y0 = torch.randn(2, 3, requires_grad=True)
    ys = solve_by(mode, solver, CountedField(SmallNet(3), Ledger()), y0, torch.tensor(times)).ys
    assert torch.equal(torch.autograd.grad(ys.sum(), y0)[0], torch.full_like(y0, len(times)))


@each_pair
def test_replaying_costs_the_stages_of_every_round_that_was_accepted_in(solver: PerSampleStepping) -> None:
    integrate, ts = Integrator(solver=solver, gradient=Checkpoint()), torch.tensor([0.0, 1.0])
    net, y0 = SmallNet(2), of_unequal_sizes().requires_grad_()
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        ys = integrate(net, y0, ts).ys
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        weighed(ys).backward()
    rounds, rest = divmod(backward.evaluations, solver.tableau.stages)
    assert rest == 0, "no output lies within a step"
    assert forward.accepted <= rounds <= forward.accepted + forward.rejected
