"""With `--shapes`, an array of a wrong shape or type stops in the call that passes or returns it."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.backprop import Backprop
from ode_runner.networks.dense import MLPField
from ode_runner.problem import Problem
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.splitting.leapfrog import Leapfrog
from tests.problems import Compose, build

SOLVER = RK4(num_steps=2, step_size=None)
Y0, TS = torch.zeros(3, 2), torch.tensor([0.0, 0.5, 1.0])


def counted(field: VectorField) -> CountedField:
    return CountedField.around(field, Ledger())


@pytest.fixture
def field() -> CountedField:
    return counted(MLPField([2, 4, 2], time=True))


class Wider(VectorField):
    """One element more than the state has."""

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.cat([y, y[:, :1]], dim=1)


class Shorter(VectorField):
    """One sample in place of all, which would be spread over the batch without a word."""

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return y[:1]


def test_what_is_right_is_solved(field: CountedField) -> None:
    assert SOLVER.solve(field, Y0, TS).ys.shape == (3, 3, 2)
    assert field(torch.zeros(3), Y0).shape == (3, 2)  # a time for each sample


@pytest.mark.parametrize("wrong", [Wider(), Shorter()], ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("name", ["rk4", "dopri5", "implicit_midpoint", "reversible_heun"])
def test_a_field_that_returns_another_shape_stops(composed: Compose, name: str, wrong: VectorField) -> None:
    with pytest.raises(TypeCheckError, match="return value"):
        build(composed, "solver", name).solve(counted(wrong), Y0, TS)


@pytest.mark.parametrize("ts", [torch.zeros(2, 2), torch.tensor(1.0), torch.tensor([0, 1]), [0.0, 1.0]])
def test_times_that_are_no_vector_of_floats_stop(field: CountedField, ts: Tensor) -> None:
    with pytest.raises(TypeCheckError, match="ts"):
        SOLVER.solve(field, Y0, ts)


@pytest.mark.parametrize("t", [torch.zeros(2), torch.zeros(3, 1), 0.0])
def test_a_time_is_one_number_or_one_for_each_sample(t: Tensor) -> None:
    with pytest.raises(TypeCheckError, match="MLPField"):
        MLPField([2, 4, 2], time=True)(t, Y0)


@pytest.mark.parametrize("y0", [torch.tensor(0.0), torch.zeros(3, 2, dtype=torch.int64)])
def test_a_state_is_a_batch_of_floats(field: CountedField, y0: Tensor) -> None:
    with pytest.raises(TypeCheckError, match="y0"):
        SOLVER.solve(field, y0, TS)


def test_dataclasses_and_their_types_are_checked(field: CountedField) -> None:
    with pytest.raises(TypeCheckError, match="num_steps"):
        RK4(num_steps="2", step_size=None)  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError, match="solver"):
        Backprop().solve(Leapfrog, Problem(field=field, y0=Y0, ts=TS))  # type: ignore[arg-type]
