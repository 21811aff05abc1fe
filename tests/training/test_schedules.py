"""Schedules give the fraction of the learning rate they promise."""

import math
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adagrad, AdamW, Optimizer

from ode_runner.build import build_experiment, build_trainer
from ode_runner.config.help import conf_dir
from ode_runner.errors import RefusedInput
from ode_runner.training.schedules import Constant, Cosine, InverseSquareRoot, Linear, OneCycle, Schedule, Steps
from tests.conftest import Compose
from tests.helpers import TINY

ONE_CYCLE = {
    "warmup": 0.3, "div_factor": 25.0, "final_div_factor": 1e4,
    "cycle_momentum": False, "base_momentum": 0.85, "max_momentum": 0.95,
}  # fmt: skip


def course(schedule: Schedule, *, steps: int, optimizer: type[Optimizer] = SGD, **options: Any) -> list[dict[str, Any]]:
    """The optimizer's settings in each of `steps` steps of one epoch."""
    made = optimizer([torch.zeros(1, requires_grad=True)], **options)
    scheduler, found = schedule.scheduler(made, steps_per_epoch=steps, steps=steps), []
    for _ in range(steps):
        found.append(dict(made.param_groups[0]))
        made.step()
        scheduler.step()
    return found


def test_constant_is_constant() -> None:
    assert {Constant(warmup=None).factor(epoch, 10) for epoch in (0.0, 3.3, 10.0)} == {1.0}


def test_steps_fall_at_the_paper_s_epochs() -> None:
    steps = Steps(milestones=[60, 100, 140], gamma=0.1, warmup=None)
    factors = [steps.factor(epoch, 160) for epoch in (0.0, 59.99, 60.0, 99.9, 100.0, 139.9, 140.0, 160.0)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_goes_from_one_through_a_half_to_nothing() -> None:
    cosine = Cosine(warmup=0.0)
    assert [cosine.factor(epoch, 4) for epoch in (0.0, 2.0, 4.0)] == pytest.approx([1, 0.5, 0])


def test_cosine_rises_while_it_warms_up_and_then_falls() -> None:
    cosine = Cosine(warmup=0.25)
    assert [cosine.factor(epoch, 4) for epoch in (0.0, 0.5, 1.0, 2.5, 4.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_every_rate_rises_in_a_line_while_it_warms_up_and_reaches_its_own_there() -> None:
    rates = [
        Constant(warmup=0.25), Steps(milestones=[3], gamma=0.1, warmup=0.25), Linear(warmup=0.25),
        InverseSquareRoot(warmup=0.25),
    ]  # fmt: skip
    for rate in rates:
        assert [rate.factor(epoch, 4) for epoch in (0.0, 0.5, 1.0)] == pytest.approx([0, 0.5, 1])
    after = [[rate.factor(epoch, 4) for epoch in (2.0, 4.0)] for rate in rates]
    assert after == [pytest.approx(x) for x in ([1, 1], [1, 0.1], [2 / 3, 0], [2**-0.5, 0.5])]


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_that_is_no_fraction_is_refused(warmup: float) -> None:
    with pytest.raises(RefusedInput, match="schedule.warmup"):
        Cosine(warmup=warmup)
    with pytest.raises(RefusedInput, match="schedule.warmup"):
        Constant(warmup=warmup)


def test_a_rate_that_falls_from_nowhere_is_refused() -> None:
    with pytest.raises(RefusedInput, match="schedule.warmup=0 leaves nothing"):
        InverseSquareRoot(warmup=0.0)


def test_steps_refuse_a_gamma_that_is_not_positive() -> None:
    with pytest.raises(RefusedInput, match="schedule.gamma"):
        Steps(milestones=[1], gamma=0.0, warmup=None)


def test_one_cycle_rises_to_the_rate_and_falls_to_nothing() -> None:
    rates = [group["lr"] for group in course(OneCycle(**ONE_CYCLE), steps=101, lr=0.5)]
    peak = rates.index(max(rates))
    assert (rates[0], rates[-1]) == pytest.approx((0.5 / 25, 0.5 / 25 / 1e4))
    assert max(rates) == pytest.approx(0.5, rel=1e-3)
    assert peak in (29, 30), "0.3 of 100"
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    halfway = (1 + math.cos(math.pi * (50 - 29.3) / 70.7)) / 2
    assert rates[50] == pytest.approx(0.5 * halfway + (1 - halfway) * 0.5 / 25 / 1e4)


@pytest.mark.parametrize(("optimizer", "read"), [(SGD, "momentum"), (AdamW, "betas")])
def test_one_cycle_moves_the_momentum_only_when_asked(optimizer: type[Optimizer], read: str) -> None:
    def momenta(cycle: bool) -> list[float]:
        options = {"momentum": 0.5} if optimizer is SGD else {"betas": (0.5, 0.999)}
        groups = course(
            OneCycle(**ONE_CYCLE | {"cycle_momentum": cycle}), steps=101, optimizer=optimizer, lr=1, **options
        )
        return [group[read] if optimizer is SGD else group[read][0] for group in groups]

    assert set(momenta(False)) == {0.5}
    moved = momenta(True)
    assert (moved[0], moved[-1]) == pytest.approx((0.95, 0.95))
    assert min(moved) == pytest.approx(0.85, rel=1e-3)


@pytest.mark.parametrize("warmup", [0, 0.0, 0.1, 0.25, 0.5, 0.99])
def test_one_cycle_fits_a_run_of_any_length(warmup: float) -> None:
    for steps in range(1, 25):
        rates = [group["lr"] for group in course(OneCycle(**ONE_CYCLE | {"warmup": warmup}), steps=steps, lr=1.0)]
        assert all(0 < rate <= 1 for rate in rates), steps


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"warmup": 1.0}, "schedule.warmup"),
        ({"div_factor": 0.5}, "schedule.div_factor"),
        ({"final_div_factor": 0.0}, "schedule.final_div_factor"),
        ({"base_momentum": 0.99}, "schedule.base_momentum"),
        ({"max_momentum": 1.0}, "schedule.max_momentum"),
    ],
)
def test_one_cycle_refuses_what_makes_no_cycle(options: dict[str, float], named: str) -> None:
    with pytest.raises(RefusedInput, match=named):
        OneCycle(**ONE_CYCLE | options)


def test_one_cycle_needs_a_momentum_to_cycle() -> None:
    with pytest.raises(RefusedInput, match="schedule.cycle_momentum=true needs"):
        course(OneCycle(**ONE_CYCLE | {"cycle_momentum": True}), steps=3, optimizer=Adagrad, lr=1)


def test_steps_refuse_epochs_before_the_first() -> None:
    with pytest.raises(RefusedInput, match=r"schedule.milestones must be epochs, 0 or more, not \[1,-1\]"):
        Steps(milestones=[1, -1], gamma=0.5, warmup=None)


@pytest.mark.parametrize("name", sorted(path.stem for path in conf_dir().joinpath("schedule").glob("*.yaml")))
def test_every_schedule_ends_where_max_steps_ends_the_run(name: str, composed: Compose) -> None:
    def rates(*length: str) -> list[float]:
        cfg = composed("trainer.device=cpu", *TINY, f"schedule={name}", *length)
        choices = cfg.hydra.runtime.choices
        made = build_trainer(cfg, choices, build_experiment(cfg, choices))
        found = []
        for _ in range(made.total_steps):
            found.append(made.optimizer.param_groups[0]["lr"])
            made.optimizer.step()
            made.schedule.step()
        return found

    whole = rates("trainer.epochs=3")
    assert rates("trainer.epochs=100", f"trainer.max_steps={len(whole)}") == whole
