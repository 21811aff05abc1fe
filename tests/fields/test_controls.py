"""Controls: paths through rows, what stands in place of missing values, and what padding and redundant rows change."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from ode_runner.controls.base import path_at, slope_at
from ode_runner.controls.missing import counts, held, interpolated
from ode_runner.controls.named import CONTROLS, ControlName, control_named
from ode_runner.controls.series import Series
from ode_runner.encoding import Encoding
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.breaks import breaks_of
from ode_runner.integrator import Integrator
from ode_runner.models.series.cde import ControlledField
from ode_runner.models.series.rde import WindowField, increments_and_areas
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.midpoint import Midpoint
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.tasks.series.area import shoelace
from ode_runner.types import State
from tests.problems import slope

pytestmark = pytest.mark.usefixtures("float64")
NAN = math.nan
ADAPTIVE: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-6, "max_steps": 10_000}
BLANKS = Series.complete(
    torch.tensor([[0.0, 1.0, 3.0, 4.0]]), torch.tensor([[[1.0, NAN], [NAN, 5.0], [4.0, NAN], [NAN, NAN]]])
)


def walks(series: int, rows: int, channels: int = 2) -> Tensor:
    return torch.randn(series, rows, channels, generator=torch.Generator().manual_seed(0)).cumsum(dim=1)


def of_all(knots: Tensor) -> Tensor:
    """The lengths of series without padding."""
    return torch.full((len(knots),), knots.shape[1])


class AreaMatrices(nn.Module):
    """On (x, y, A): dA = 1/2 (x dy - y dx)."""

    def forward(self, z: State) -> Tensor:
        x, y, _ = z.T
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        return torch.stack([torch.stack(row, dim=1) for row in ((one, zero), (zero, one), (-y / 2, x / 2))], dim=1)


def driven(knots: Tensor, name: ControlName, solver: Solver, *, lengths: Tensor | None = None) -> Tensor:
    """(x, y, A) at the end of the path through the knots."""
    lengths, control = of_all(knots) if lengths is None else lengths, control_named(name)
    field = ControlledField(AreaMatrices())
    ts = torch.tensor([0.0, float(control.pieces * (knots.shape[1] - 1))])
    begin = torch.cat([knots[:, 0], torch.zeros(len(knots), 1)], dim=1)
    given = (control.coefficients(knots, lengths),)
    edges = {"breaks": control.breaks(lengths, ends=False), "knots": control.knots(lengths)}
    return Integrator(solver=solver, gradient=Backprop())(field, Encoding(begin, given, **edges), ts).ys[-1]


def a_step_a_piece(kind: type[Midpoint | RK4] = RK4) -> Solver:
    return kind(num_steps=1, step_size=None)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_passes_through_its_rows(name: ControlName) -> None:
    knots, control = walks(3, 7, 3), control_named(name)
    found = control.coefficients(knots, of_all(knots))
    s = torch.arange(7.0) * control.pieces
    for one, coefficients in zip(knots, found, strict=True):
        torch.testing.assert_close(path_at(s, one[0], coefficients), one)


def test_the_slope_is_that_of_the_path_at_one_place_and_at_one_of_each_series() -> None:
    knots, s = walks(3, 7), torch.tensor([0.3, 2.0, 5.9])
    coefficients = control_named("hermite").coefficients(knots, of_all(knots))
    each = slope_at(s, coefficients)
    for row in range(3):
        differences = path_at(s[row] + torch.tensor([-1e-6, 1e-6]), knots[row, 0], coefficients[row]).diff(dim=0)
        torch.testing.assert_close(each[row], differences[0] / 2e-6, rtol=0, atol=1e-5)
        torch.testing.assert_close(slope_at(s[row], coefficients)[row], each[row])


def test_hermite_has_backward_differences() -> None:
    knots = walks(2, 6)
    coefficients = control_named("hermite").coefficients(knots, of_all(knots))
    d = knots.diff(dim=1)
    torch.testing.assert_close(slope_at(torch.tensor(3.0), coefficients), d[:, 2])
    torch.testing.assert_close(slope_at(torch.tensor(4 - 1e-12), coefficients), d[:, 3])
    torch.testing.assert_close(slope_at(torch.tensor(0.4), coefficients), d[:, 0])


def test_natural_is_scipys_spline_whatever_padding_follows() -> None:
    knots = walks(2, 8)
    padded = torch.cat([knots, knots[:, -1:].expand(-1, 3, -1)], dim=1)
    coefficients = control_named("natural").coefficients(padded, of_all(knots))
    s = np.linspace(0, 7, 50)
    reference = CubicSpline(np.arange(8), knots.numpy(), axis=1, bc_type="natural")(s, 1)
    for place, expected in zip(s, reference.transpose(1, 0, 2), strict=True):
        torch.testing.assert_close(slope_at(torch.tensor(min(place, 7 - 1e-12)), coefficients), torch.tensor(expected))
    assert not coefficients[:, 7:].any()


def test_rectilinear_goes_on_in_time_first() -> None:
    knots = torch.tensor([[[0.0, 1.0], [2.0, 5.0], [3.0, 4.0]]])
    coefficients = control_named("rectilinear").coefficients(knots, of_all(knots))
    assert path_at(torch.arange(5.0), knots[0, 0], coefficients[0]).tolist() == [
        [0, 1], [2, 1], [2, 5], [3, 5], [3, 4]
    ]  # fmt: skip


def test_missing_values_are_held_or_on_the_line_in_time_between_their_neighbours() -> None:
    assert held(BLANKS)[0].T.tolist() == [[1, 1, 4, 4], [0, 5, 5, 5]]
    assert interpolated(BLANKS)[0].T.tolist() == [[1, 2, 4, 4], [5, 5, 5, 5]]
    assert counts(BLANKS)[0].T.tolist() == [[1, 1, 2, 2], [0, 1, 1, 1]]


def test_rows_come_back_as_series_whatever_padding_holds() -> None:
    series = Series(times=BLANKS.times, values=BLANKS.values, lengths=torch.tensor([2]))
    back = Series.of_rows(series.rows())
    assert back.lengths.tolist() == [2]
    assert back.times.tolist() == [[0, 1, 1, 1]]
    assert back.observed[0].tolist() == [[True, False], [False, True], [False, False], [False, False]]
    assert counts(back)[0, -1].tolist() == [1, 1]


@pytest.mark.parametrize("solver", [a_step_a_piece(Midpoint), a_step_a_piece(RK4)])
def test_along_straight_lines_the_area_is_the_shoelace_sum(solver: Solver) -> None:
    knots = walks(64, 40)
    found = driven(knots, "linear", solver)
    torch.testing.assert_close(found[:, :2], knots[:, -1], rtol=0, atol=1e-12)
    torch.testing.assert_close(found[:, 2], shoelace(*knots.unbind(dim=2))[:, -1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["hermite", "natural", "linear"])
def test_no_step_spans_a_row(name: ControlName) -> None:
    """Steps that do are of a lower order, of which an error estimate knows nothing."""
    knots = walks(8, 20)
    expected = driven(knots, name, RK4(num_steps=32, step_size=None))
    for per_sample in (False, True):
        found = driven(knots, name, Dopri5(**ADAPTIVE, per_sample=per_sample))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    few, three = (driven(knots, name, RK4(num_steps=n, step_size=h)) for n, h in ((None, 0.4), (3, None)))
    torch.testing.assert_close(few, three, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("solver", "met"), [(RK4(num_steps=3, step_size=None), True), (Dopri5(**ADAPTIVE, per_sample=False), False)]
)
def test_fixed_steps_that_end_at_every_row_are_one_solve(solver: Solver, met: bool) -> None:
    encoding, whole = Encoding(torch.zeros(1, 1), breaks=[2.0], knots=[1.0, 2.0, 3.0]), torch.tensor([0.0, 4.0])
    assert (breaks_of(encoding, solver, whole) == [2.0]) == met
    assert 2.0 in breaks_of(encoding, solver, whole[:1])  # a single time, with no step
    assert breaks_of(encoding, solver, torch.tensor([0.0, 1.5, 4.0])) == [2.0, 1.0, 2.0, 3.0]


def test_rows_that_are_on_the_line_anyway_change_nothing() -> None:
    knots = walks(5, 9)
    middle = torch.lerp(knots[:, 3:4], knots[:, 4:5], 0.3)
    more = torch.cat([knots[:, :4], middle, knots[:, 4:]], dim=1)
    few, many = (driven(k, "linear", a_step_a_piece()) for k in (knots, more))
    torch.testing.assert_close(many, few, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", CONTROLS)
def test_padding_and_company_change_nothing(name: ControlName) -> None:
    knots = walks(3, 9)
    padded = torch.cat([knots[:1, :5], knots[:1, 4:5].expand(-1, 4, -1)], dim=1)
    alone = driven(knots[:1, :5], name, a_step_a_piece())
    together = driven(torch.cat([padded, knots[1:]]), name, a_step_a_piece(), lengths=torch.tensor([5, 9, 9]))
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-13)
    torch.testing.assert_close(together[1:], driven(knots[1:], name, a_step_a_piece()), rtol=0, atol=1e-13)


def over_windows(matrices: nn.Module, knots: Tensor, begin: Tensor, window: int, *, areas: bool = True) -> Tensor:
    """The state at the end of the lines through the knots, by eight steps of rk4 a window."""
    increments, swept = increments_and_areas(knots.diff(dim=1), window)
    windows = increments.shape[1]
    given, ts = (increments, swept if areas else torch.zeros_like(swept)), torch.tensor([0.0, float(windows)])
    integrate = Integrator(solver=RK4(num_steps=8, step_size=None), gradient=Backprop())
    with torch.no_grad():
        return integrate(WindowField(matrices), begin, ts, given=given, breaks=[*range(1, windows)]).ys[-1]


@pytest.mark.parametrize("window", [3, 39])
def test_areas_of_windows_add_up_to_the_area(window: int) -> None:
    knots = walks(5, 40)
    found = over_windows(AreaMatrices(), knots, torch.cat([knots[:, 0], torch.zeros(5, 1)], dim=1), window)
    torch.testing.assert_close(found[:, :2], knots[:, -1], rtol=0, atol=1e-12)
    torch.testing.assert_close(found[:, 2], shoelace(*knots.unbind(dim=2))[:, -1], rtol=0, atol=1e-11)


@pytest.mark.slow
def test_windows_of_a_smooth_path_are_of_order_four_and_without_areas_of_order_two() -> None:
    """Against the controlled equation itself along the same lines."""
    torch.manual_seed(0)
    matrices = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6), nn.Unflatten(1, (3, 2)))
    t = torch.linspace(0, 2, 65)
    knots, begin = torch.stack([(3 * t).sin(), t + (2 * t).cos()], dim=1)[None], torch.ones(1, 3)
    exact, windows = over_windows(matrices, knots, begin, 1), [4, 8, 16]
    for areas, order in ((True, 4), (False, 2)):
        ends = [over_windows(matrices, knots, begin, window, areas=areas) for window in windows]
        assert slope(windows, [float((end - exact).norm()) for end in ends]) == pytest.approx(order, abs=0.3)
