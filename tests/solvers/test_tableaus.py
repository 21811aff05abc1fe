"""Butcher tableaus against the order conditions of Hairer, Norsett, Wanner. Solving ODEs I, II.2, over all trees."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.solvers.embedded import AdaptiveRungeKutta, EmbeddedRungeKutta
from ode_runner.solvers.implicit.diagonally_implicit import DiagonallyImplicit
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.implicit.kvaerno5 import Kvaerno5
from ode_runner.solvers.one_step import ExplicitRungeKutta, RungeKutta
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau, Tableau, advance, stage_time
from tests.problems import Compose, build, looks_beyond, offering

pytestmark = pytest.mark.usefixtures("float64")

ROUNDING = 1e-13  # some sums of a dozen coefficients between 1e-3 and 1e2

Tree = tuple["Tree", ...]  # a rooted tree is the collection of its root's subtrees


@pytest.fixture(params=offering(RungeKutta))
def solver(request: pytest.FixtureRequest, composed: Compose) -> RungeKutta:
    return build(composed, "solver", request.param)


@pytest.fixture(params=offering(AdaptiveRungeKutta))
def embedded(request: pytest.FixtureRequest, composed: Compose) -> AdaptiveRungeKutta:
    return build(composed, "solver", request.param)


def order(tree: Tree) -> int:
    return 1 + sum(order(branch) for branch in tree)


def density(tree: Tree) -> int:
    return order(tree) * math.prod(density(branch) for branch in tree)


@cache
def trees(size: int) -> list[Tree]:
    return sorted(set(forests(size - 1)))


def forests(size: int) -> Iterator[Tree]:
    """Every multiset of trees with `size` nodes in all."""
    if size == 0:
        yield ()
    for first in range(1, size + 1):
        for tree in trees(first):
            for rest in forests(size - first):
                yield tuple(sorted((tree, *rest)))


def stage_weights(tableau: Tableau, tree: Tree) -> Tensor:
    weights = torch.ones(len(tableau.b))
    for branch in tree:
        weights = weights * (square(tableau) @ stage_weights(tableau, branch))
    return weights


def square(tableau: Tableau) -> Tensor:
    stages = len(tableau.b)
    return torch.tensor([[*row, *[0.0] * (stages - len(row))] for row in tableau.a])


def defects(tableau: Tableau, weights: Tensor, up_to: int, place: float = 1.0) -> list[float]:
    """By how much each order condition is missed at `place` within the step."""
    return [
        abs(float(weights @ stage_weights(tableau, tree)) - place ** order(tree) / density(tree))
        for size in range(1, up_to + 1)
        for tree in trees(size)
    ]


def test_there_are_as_many_trees_as_cayley_counted() -> None:
    assert [len(trees(size)) for size in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]


def test_each_stage_uses_earlier_stages_only_and_an_implicit_one_itself(solver: RungeKutta) -> None:
    if isinstance(solver, ImplicitSolver) and not isinstance(solver, DiagonallyImplicit):
        pytest.skip("solves all stages together")
    itself = not isinstance(solver, ExplicitRungeKutta)
    assert [len(row) - itself for row in solver.tableau.a] == list(range(len(solver.tableau.b)))


def test_stages_lie_within_the_step(solver: RungeKutta) -> None:
    if looks_beyond(solver):
        assert isinstance(solver, Kvaerno5)
        return
    times = [stage_time(0.3, 1.1, c) for c in solver.tableau.c]
    assert times[0] == 0.3 or any(solver.tableau.a[0])
    assert all(0.3 <= t <= 1.1 for t in times)


def test_order_conditions_hold_up_to_the_order_and_no_further(solver: RungeKutta) -> None:
    weights = torch.tensor(solver.tableau.b)
    assert max(defects(solver.tableau, weights, solver.order)) < ROUNDING
    assert max(defects(solver.tableau, weights, solver.order + 1)) > 1e-7  # the least defect of the next order, dopri8


def test_quadrature_conditions_hold_up_to_the_order(solver: RungeKutta) -> None:
    b, c = torch.tensor([solver.tableau.b, solver.tableau.c])
    for power in range(solver.order):
        assert float(b @ c**power) == pytest.approx(1 / (power + 1), abs=ROUNDING)


def test_error_weights_sum_to_zero(embedded: AdaptiveRungeKutta) -> None:
    assert math.fsum(embedded.tableau.b_error) == pytest.approx(0, abs=ROUNDING)


def test_the_judge_is_of_the_order_that_step_control_reckons_with(embedded: AdaptiveRungeKutta) -> None:
    judge = torch.tensor(embedded.tableau.b) - torch.tensor(embedded.tableau.b_error)
    assert max(defects(embedded.tableau, judge, embedded.error_order - 1)) < ROUNDING
    assert max(defects(embedded.tableau, judge, embedded.error_order)) > 1e-7  # else it would judge nothing


def test_the_middle_of_a_step_is_of_order_four(embedded: AdaptiveRungeKutta) -> None:
    if embedded.tableau.middle is None:
        pytest.skip("interpolates by the cubic through both ends")
    if embedded.tableau.extra_stages:
        pytest.skip("is of higher order, and has a test of its own")
    middle = torch.tensor(embedded.tableau.middle)
    assert max(defects(embedded.tableau, middle, 4, place=0.5)) < ROUNDING


def in_detail(tableau: Tableau) -> Tableau:
    """With the places of dense output as stages of their own, after f(t1, y1)."""
    rows = [*tableau.a[: tableau.stages], tableau.b[: tableau.stages], *tableau.extra_stages]
    return Tableau(a=tuple(rows), b=(1.0, *[0.0] * (len(rows) - 1)))


HEUN2 = {"a": ((), (1.0,)), "b": (0.5, 0.5)}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"b": (0.5, 0.4)}, "the weights b of a tableau sum to 0.9, and those of a method to 1"),
        ({"b": (0.5, math.nan)}, "the weights b of a tableau sum to nan"),
        ({"b": (0.5, 0.5, 0.0)}, "the weights b of a tableau have length 3, and its slopes are 2"),
        ({"b": (1.0,)}, "the weights b of a tableau have length 1, and its"),
        ({"a": ((), ())}, r"row 1 \(from 0\) of a tableau's a has length 0, not 1 \(one for each earlier stage\)"),
        ({"a": ((), (0.5, 0.5, 0.0))}, r"row 1 \(from 0\) of a tableau's a has length 3"),
        (
            {"b_error": (1.0, 0.0)},
            "b_error of a tableau sum to 1, and those of the difference of two methods to 0: give b",
        ),
        ({"b_error": (0.0, 0.0)}, "b_error of a tableau are all 0"),
        ({"b_error": (0.5, -0.5, 0.0)}, "b_error of a tableau have length 3, and"),
        ({"middle": (0.5, 0.5)}, "middle of a tableau sum to 1, and those of the middle to 0.5"),
        ({"middle": (0.5,)}, "middle of a tableau have length 1, and its"),
    ],
)
def test_coefficients_that_are_no_tableau_are_refused_by_name(given: dict[str, Any], sentence: str) -> None:
    EmbeddedTableau(**HEUN2 | {"b_error": (0.5, -0.5)})
    with pytest.raises(RefusedInput, match=sentence):
        EmbeddedTableau(**HEUN2 | {"b_error": (0.5, -0.5)} | given)


@pytest.mark.parametrize(
    ("base", "rows", "sentence"),
    [
        (FixedStepRungeKutta, ((0.0, 0.0), (1.0, 0.0)), r"row 0 .* has length 2, and that of an explicit method 0:"),
        (DiagonallyImplicit, ((0.5,), (0.5,)), r"row 1 .* has length 1, .* a diagonally implicit method 2:"),
    ],
)
def test_rows_that_a_kind_of_method_does_not_have_are_refused(
    base: type[RungeKutta], rows: tuple[tuple[float, ...], ...], sentence: str
) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        type("Own", (base,), {"tableau": Tableau(a=rows, b=(0.5, 0.5))})


def test_dense_output_is_of_one_order_less_than_the_step(solver: RungeKutta) -> None:
    """And its last place of the same, the others of one less still: slopes count times the length of the step."""
    tableau, order = solver.tableau, solver.order
    if not tableau.extra_stages:
        pytest.skip("has no places but the middle")
    detailed = in_detail(tableau)
    for x in (0.0, 0.1, 0.31, 0.5, 0.77, 1.0):
        weights = torch.tensor(tableau.within(x))
        assert max(defects(detailed, weights, order - 1, place=x)) < ROUNDING
    for row in tableau.extra_stages:
        weights = torch.tensor([*row, *[0.0] * (len(detailed.b) - len(row))])
        assert max(defects(detailed, weights, order - 1 - (row != tableau.middle), place=sum(row))) < ROUNDING


def test_dense_output_joins_states_and_slopes(solver: RungeKutta) -> None:
    tableau = solver.tableau
    if not tableau.extra_stages:
        pytest.skip("has no places but the middle")
    count, b, d = len(tableau.within(0.0)), tableau.b[: tableau.stages], 1e-6
    for x, expected in ((0.0, ()), (0.5, tableau.middle or ()), (1.0, b)):
        assert tableau.within(x) == pytest.approx([*expected, *[0.0] * (count - len(expected))], abs=ROUNDING)
    places = [(0.0, 0), (1.0, tableau.stages), *((sum(row), len(row)) for row in tableau.extra_stages)]
    for x, stage in places:
        slopes = [(hi - lo) / (2 * d) for lo, hi in zip(tableau.within(x - d), tableau.within(x + d), strict=True)]
        unit = [float(i == stage) for i in range(count)]
        assert slopes == pytest.approx(unit, abs=1e-9)  # central differences


@pytest.mark.parametrize("name", offering(EmbeddedRungeKutta))
def test_first_same_as_last_means_that_the_last_stage_is_the_solution(composed: Compose, name: str) -> None:
    tableau = build(composed, "solver", name).tableau
    ks = list(torch.randn(len(tableau.b), 2, 3))
    last_stage = advance(torch.zeros(2, 3), 0.1, tableau.a[-1], ks[:-1])
    solution = advance(torch.zeros(2, 3), 0.1, tableau.b, ks)
    assert torch.allclose(last_stage, solution, atol=ROUNDING) == tableau.first_same_as_last


@pytest.mark.parametrize(
    ("name", "reused"), [("bosh3", True), ("dopri5", True), ("tsit5", True), ("dopri8", True), ("fehlberg2", False)]
)
def test_pairs_known_to_reuse_their_last_stage_do(composed: Compose, name: str, reused: bool) -> None:
    assert build(composed, "solver", name).tableau.first_same_as_last == reused


def test_zero_weights_neither_cost_nor_count() -> None:
    y, poison = torch.ones(2), torch.full((2,), torch.nan)
    assert torch.equal(advance(y, 0.5, (0.0, 2.0), [poison, torch.ones(2)]), torch.full((2,), 2.0))


@pytest.mark.parametrize("name", ["kvaerno3", "kvaerno5"])
def test_kvaernos_pairs_damp_what_is_stiff_and_solve_their_stages_to_order_two(name: str, composed: Compose) -> None:
    """L-stable: |R| is at most 1 on the imaginary axis, and 0 at infinity."""
    tableau = build(composed, "solver", name).tableau
    a, ones = square(tableau).to(torch.complex128), torch.ones(len(tableau.b), dtype=torch.complex128)
    b = torch.tensor(tableau.b, dtype=torch.complex128)

    def stability(z: complex) -> float:
        return abs(1 + z * complex(b @ torch.linalg.solve(torch.eye(len(ones)) - z * a, ones)))

    assert max(stability(1j * y) for y in torch.logspace(-2, 4, 200).tolist()) < 1 + 1e-12
    assert stability(-1e8) < 1e-6
    c = square(tableau).sum(dim=1)
    assert float((square(tableau) @ c - c.square() / 2)[1:].abs().max()) < 1e-14
    assert len({row[-1] for row in tableau.a[1:]}) == 1, "one matrix for all stages"
