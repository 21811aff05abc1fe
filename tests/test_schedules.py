"""Schedules give the fraction of the learning rate they promise."""

import pytest

from ode_runner.errors import RefusedInput
from ode_runner.training.schedules import Constant, Cosine, Steps


def test_constant_is_constant() -> None:
    assert {Constant().factor(epoch, 10) for epoch in (0.0, 3.3, 10.0)} == {1.0}


def test_steps_fall_at_the_paper_s_epochs() -> None:
    steps = Steps(milestones=[60, 100, 140], gamma=0.1)
    factors = [steps.factor(epoch, 160) for epoch in (0.0, 59.99, 60.0, 99.9, 100.0, 139.9, 140.0, 160.0)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_goes_from_one_through_a_half_to_nothing() -> None:
    cosine = Cosine(warmup=0.0)
    assert [cosine.factor(epoch, 4) for epoch in (0.0, 2.0, 4.0)] == pytest.approx([1, 0.5, 0])


def test_cosine_rises_while_it_warms_up_and_then_falls() -> None:
    cosine = Cosine(warmup=0.25)
    assert [cosine.factor(epoch, 4) for epoch in (0.0, 0.5, 1.0, 2.5, 4.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_that_is_no_fraction_is_refused(warmup: float) -> None:
    with pytest.raises(RefusedInput, match="schedule.warmup"):
        Cosine(warmup=warmup)


def test_steps_refuse_a_gamma_that_is_not_positive() -> None:
    with pytest.raises(RefusedInput, match="schedule.gamma"):
        Steps(milestones=[1], gamma=0.0)
