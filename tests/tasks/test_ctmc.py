"""Markov chains: their generators, the paths that solvers follow, and both against the exponential of the matrix."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Outputs, Split
from ode_runner.errors import IncompatibleChoice, RefusedInput, SolverFailed
from ode_runner.fields.ledger import Phase
from ode_runner.fields.structured_field import JumpField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.markov_chains.gillespie import Gillespie
from ode_runner.solvers.markov_chains.tau_leap import TauLeap
from ode_runner.tasks.dynamics.chains import (
    ChainJumps,
    ReverseChainJumps,
    ReverseMasterEquation,
    distribution_at,
    random_generator,
    reverse_generator,
    uniform_generator,
)
from ode_runner.tasks.dynamics.ctmc import CTMC
from ode_runner.tasks.variation import expected_variation, total_variation
from ode_runner.types import Time
from tests.helpers import record_of, typed
from tests.problems import Compose, build, slope

pytestmark = pytest.mark.usefixtures("float64")

START = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03], dtype=torch.float64)
PATHS = 4000


def followed(solver: Solver, field: JumpField, x0: Tensor, ts: Tensor, *, first: int = 0, seed: int = 1) -> Tensor:
    noise = sample_noise(seed, torch.arange(first, first + len(x0)))
    return Integrator(solver=solver, gradient=Backprop())(field, x0, ts, noise=noise).ys


def drawn(distribution: Tensor, count: int = PATHS) -> Tensor:
    places = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.searchsorted(distribution.cumsum(0), places)[:, None]


def distribution_of(x: Tensor, states: int = 5) -> Tensor:
    return torch.bincount(x.flatten(), minlength=states).double() / x.numel()


def task(**options: Any) -> CTMC:
    every = {"generator": None, "horizon": None, "reverse": False, "paths": None} | options
    return CTMC(start=START.tolist(), **every, seed=0, device=torch.device("cpu"))


def tv_of(made: CTMC, solver: Solver) -> float:
    noise = None if made.paths is None else sample_noise(0, torch.arange(made.paths))
    integrate = Integrator(solver=solver, gradient=Backprop())
    [batch] = made.batches(Split.TEST, batch_size=7, epoch=0)
    assert made.spec.field is not None
    outputs = Outputs(values=integrate(made.spec.field, batch.inputs, batch.ts, noise=noise).ys)
    return made.set_metrics(Split.TEST, [(batch, outputs)])["tv"].value


def test_a_chain_and_the_same_seen_backwards_have_one_law() -> None:
    q = random_generator(5, seed=2)
    assert float(q.sum(dim=1).abs().max()) < 1e-14
    assert bool((q - torch.diag(q.diagonal()) >= 0).all())
    h, t = 1e-5, torch.tensor(0.4)
    p, slope_of_p = (
        distribution_at(q, START, t),
        (distribution_at(q, START, t + h) - distribution_at(q, START, t - h)) / (2 * h),
    )
    torch.testing.assert_close(q.T @ p, slope_of_p, rtol=0, atol=1e-9)
    torch.testing.assert_close(reverse_generator(q, START, t).T @ p, -slope_of_p, rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["euler", "heun", "rk4"])
def test_probabilities_converge_at_the_order_and_keep_their_sum(solver: str, composed: Compose) -> None:
    made, counts = task(), (32, 64, 128)
    methods = [build(composed, "solver", solver, num_steps=n) for n in counts]
    found = slope([1 / n for n in counts], [tv_of(made, method) for method in methods])
    assert found == pytest.approx(methods[0].order, abs=0.15)
    ys = methods[0].solve(made.spec.field, START[None], torch.tensor([0.0, 1.0])).ys
    assert float(ys[-1].sum() - 1) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_floor_of_few_paths_is_their_mean_distance_itself(count: int) -> None:
    """By enumeration; the central limit says more than 1 where states are many and paths few."""
    distribution = torch.tensor([0.6, 0.25, 0.1, 0.05, 0.0])
    counts = torch.cartesian_prod(*[torch.arange(count + 1)] * 4)
    counts = torch.nn.functional.pad(counts[counts.sum(dim=1) == count], (0, 1)).double()
    ways = math.lgamma(count + 1) - torch.lgamma(counts + 1).sum(dim=1)
    chances = (ways + torch.xlogy(counts, distribution).sum(dim=1)).exp()
    expected = chances @ (counts / count - distribution).abs().sum(dim=1) / 2
    assert expected_variation(distribution, count) == pytest.approx(float(expected), rel=1e-12)
    assert expected_variation(torch.full((1000,), 0.001), count) < 1


@pytest.mark.parametrize("count", [10**4, 10**8])
def test_the_floor_of_many_paths_is_that_of_the_central_limit(count: int) -> None:
    limit = float((2 * START * (1 - START) / (math.pi * count)).sqrt().sum() / 2)
    assert expected_variation(START, count) == pytest.approx(limit, rel=0.002)


def test_the_exponential_is_the_answer_itself(composed: Compose) -> None:
    assert tv_of(task(), build(composed, "solver", "expm")) < 1e-15


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_euler_keeps_probabilities_up_to_one_over_the_largest_rate(factor: float, composed: Compose) -> None:
    made = task()
    size = factor / float(-made.generator.diagonal().min())
    solver = build(composed, "solver", "euler", num_steps=None, step_size=size)
    worst = int(made.generator.diagonal().argmin())
    ys = solver.solve(made.spec.field, torch.eye(5)[worst][None], torch.tensor([0.0, size])).ys
    assert bool((ys >= 0).all()) is (factor < 1)


def test_gillespies_paths_have_the_law_of_the_chain() -> None:
    q = random_generator(5, seed=0)
    ts = torch.tensor([0.0, 0.3, 1.0])
    states = followed(Gillespie(num_steps=1, step_size=None), ChainJumps(q), drawn(START), ts)
    assert states.dtype is torch.int64
    for t, x in zip(ts, states, strict=True):
        expected = distribution_at(q, START, t)
        assert float(total_variation(distribution_of(x), expected)) < 2.5 * expected_variation(expected, PATHS)
    joint = torch.bincount(5 * states[1, :, 0] + states[2, :, 0], minlength=25).double() / PATHS
    between = (distribution_at(q, START, ts[1])[:, None] * torch.linalg.matrix_exp(0.7 * q)).flatten()
    assert float(total_variation(joint, between)) < 2.5 * expected_variation(between, PATHS)


def test_a_chain_of_constant_rates_may_begin_at_any_time() -> None:
    q, ts = random_generator(5, seed=0), torch.tensor([2.0, 2.3])
    states = followed(Gillespie(num_steps=1, step_size=None), ChainJumps(q), drawn(START), ts)
    expected = distribution_at(q, START, torch.tensor(0.3))
    assert float(total_variation(distribution_of(states[1]), expected)) < 2.5 * expected_variation(expected, PATHS)


def test_gillespies_evaluations_are_one_more_than_the_most_jumps_of_a_path() -> None:
    class Clock(JumpField):
        steady = True

        def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
            return torch.eye(2)[1 - x] * 3.0

    integrate = Integrator(solver=Gillespie(num_steps=1, step_size=None), gradient=Backprop())
    noise = sample_noise(1, torch.arange(1))
    with integrate.ledger.phase(Phase.EVALUATION) as tally:
        jumps = (
            integrate(Clock(), torch.tensor([[0]]), torch.linspace(0, 1, 2001), noise=noise).ys.diff(dim=0).abs().sum()
        )
    assert (tally.evaluations, tally.accepted) == (1 + int(jumps), 1 + int(jumps))


def leading(q: Tensor, steps: int) -> float:
    """How far tau-leaping backwards from t = 4 ends from the distribution at 0, without drawing."""
    distribution, size, every = distribution_at(q, START, torch.tensor(4.0)), 4 / steps, torch.arange(5)[:, None]
    for i in range(steps):
        rates = TauLeap(num_steps=1, step_size=None).rates(ReverseChainJumps(q, START), 4 - i * size, every)[:, 0]
        distribution = distribution + size * (distribution @ rates - distribution * rates.sum(dim=1))
    return float(total_variation(distribution, START))


def test_tau_leaping_backwards_is_of_order_one_with_the_errors_that_are_known() -> None:
    q = uniform_generator(5)
    errors = [leading(q, n) for n in (10, 50, 100, 400)]
    assert errors == pytest.approx([0.032, 0.0056, 0.0027, 0.00068], rel=0.02)
    assert slope([1 / n for n in (50, 100, 400)], errors[1:]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("name", "steps"), [("tau_leap", 10), ("gillespie", 4)])
def test_paths_backwards_end_in_the_law_at_the_beginning(name: str, steps: int, composed: Compose) -> None:
    made = task(reverse=True, paths=PATHS)
    solver = build(composed, "solver", name, num_steps=steps)
    bias = leading(uniform_generator(5), 4 * steps) if name == "tau_leap" else 0.0
    assert tv_of(made, solver) < bias + 2.5 * expected_variation(START, PATHS)


def test_the_law_backwards_is_solved_too(composed: Compose) -> None:
    made = task(reverse=True)
    assert isinstance(made.spec.field, ReverseMasterEquation)
    assert tv_of(made, build(composed, "solver", "rk4", num_steps=32)) < 1e-5


def test_a_path_is_its_samples_own_whatever_the_batch() -> None:
    """In several positions, whose rates depend on each other."""

    class Pulled(JumpField):
        def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
            return (1 + t) * (1.0 + x.sum(dim=1)[:, None, None]).expand(-1, 3, 4)

    x0, ts = torch.zeros(40, 3, dtype=torch.int64), torch.tensor([0.0, 0.5, 0.9])
    for solver in (TauLeap(num_steps=8, step_size=None), Gillespie(num_steps=8, step_size=None)):
        whole = followed(solver, Pulled(), x0, ts)
        assert whole.unique().tolist() == [0, 1, 2, 3]
        assert torch.equal(followed(solver, Pulled(), x0[:7], ts, first=5), whole[:, 5:12])
        assert not torch.equal(followed(solver, Pulled(), x0, ts, seed=2), whole)


def test_uniform_numbers_are_uniform_and_independent_from_time_to_time() -> None:
    noise = sample_noise(3, torch.arange(2000))
    one, same, other, later = (
        noise.uniform(torch.tensor(t), which, (2,)) for t, which in ((0.25, 0), (0.25, 0), (0.25, 1), (0.2500001, 0))
    )
    assert torch.equal(one, same)
    for numbers in (one, other, later):
        assert float(numbers.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 4000))
        assert float(numbers.var()) == pytest.approx(1 / 12, abs=0.005)
    for numbers in (other, later, one.flip(1)):
        assert abs(float(torch.corrcoef(torch.stack([one.flatten(), numbers.flatten()]))[0, 1])) < 4 / math.sqrt(4000)


def test_what_cannot_be_followed_is_refused_by_name() -> None:
    q, x0, ts = random_generator(5, seed=0), torch.zeros(3, 1, dtype=torch.int64), torch.tensor([0.0, 1.0])
    solver = TauLeap(num_steps=4, step_size=None)
    with pytest.raises(RefusedInput, match="of ChainJumps are of paths that run from earlier to later times"):
        followed(solver, ChainJumps(q), x0, ts.flip(0))
    with pytest.raises(RefusedInput, match="of ReverseChainJumps are of paths that run from later to earlier times"):
        followed(solver, ReverseChainJumps(q, START), x0, ts)
    with pytest.raises(RefusedInput, match="states of a Markov chain are whole numbers"):
        followed(solver, ChainJumps(q), x0.double(), ts)
    with pytest.raises(RefusedInput, match="ChainJumps is driven by noise, and the solve was given none"):
        Integrator(solver=solver, gradient=Backprop())(ChainJumps(q), x0, ts)
    with pytest.raises(
        IncompatibleChoice, match="solver=rk4 evaluates a field by forward, and ChainJumps is a JumpField"
    ):
        followed(RK4(num_steps=4, step_size=None), ChainJumps(q), x0, ts)
    with pytest.raises(SolverFailed, match=r"rates must be numbers of 0 or more, and reach from -"):
        followed(solver, ChainJumps(-q), x0, ts)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("solver=gillespie",), "of which it follows paths; that of task=ctmc is none. Use task=ctmc task.paths=10000"),
        (("task.paths=10",), "that of task=ctmc model=exact has none, but rates. Use solver=gillespie or tau_leap."),
        (("solver=expm", "task.reverse=true"), "solver=expm needs a constant matrix"),
        (("task.start=[0.5,0.6]",), "task.start=[0.5,0.6] must be two probabilities or more, which sum to 1."),
        (("task.paths=0",), "task.paths must be at least 1"),
        (("task.reverse=true", "task.start=[1,0,0]"), "a state without probability at an infinite rate"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    run = typed("task=ctmc", *words, cwd=tmp_path)
    assert (run.returncode, len(run.stderr.strip().splitlines())) == (2, 1)
    assert sentence in run.stderr


def test_a_run_has_its_distance_and_the_floor_beside_it(tmp_path: Path) -> None:
    words = ("task=ctmc", "solver=gillespie", "task.paths=2000", "logger=none")
    assert typed(*words, cwd=tmp_path).returncode == 0
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["test/tv"] < 2.5 * metrics["test/tv_floor"]
    assert metrics["test/tv_floor"] == pytest.approx(0.0165, rel=0.05)
