"""`make bench` tells a wrong gradient from one that is rounded otherwise; how few pairs a benchmark takes."""

import argparse
import copy
import sys
from pathlib import Path

import pytest
import torch

from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from tests.benchmarks import galerkin, problems, solving
from tests.benchmarks.clock import LEAST_PAIRS, add_pairs
from tests.benchmarks.solving import Case, Finding


def finding(case: Case, error: float) -> Finding:
    counts = solving.counts(case.posed, Integrator(solver=case.solver, gradient=Backprop()))
    return Finding(
        case="", mode="", theirs=[], ours=[], their_nfe=0, gradient_error=error, compile_seconds=0.0, **counts
    )


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(problems, "TRAINING_STEPS", 5)
    return next(iter(solving.cases().values()))


def test_sums_in_another_order_are_within_the_limit_of_the_gradient_check(case: Case) -> None:
    """Hidden units in another order are the same function, summed otherwise, as another processor would."""
    for seed in range(3):
        posed = copy.deepcopy(case.posed)
        first, _, last = posed.field.layers
        order = torch.randperm(len(first.weight), generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            for parameter in (first.weight, first.bias):
                parameter.copy_(parameter[order])
            last.weight.copy_(last.weight[:, order])
        shuffled = Case(**{**vars(case), "posed": posed})
        error = solving.gradient_error(shuffled, Integrator(solver=case.solver, gradient=Backprop()))
        found = finding(shuffled, error)
        assert error < found.gradient_within / 5
        assert found.gradient_within < 1e-4, "a wrong formula is off by more"


def test_fewer_pairs_than_have_quartiles_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_pairs(parser, default=10, of="steps of each")
    assert parser.parse_args([f"--pairs={LEAST_PAIRS}"]).pairs == LEAST_PAIRS
    for few in ("1", "-3", "many"):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--pairs={few}"])
        assert f"{few} is no number of pairs. Type 2 or more." in capsys.readouterr().err
    of_their_own = [p.name for p in Path(galerkin.__file__).parent.glob("*.py") if '"--pairs"' in p.read_text()]
    assert of_their_own == ["clock.py"]


def test_as_few_pairs_as_the_help_says_are_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["galerkin", f"--pairs={LEAST_PAIRS}"])
    assert galerkin.main() == 0
    assert "field against torch.vmap, forward" in capsys.readouterr().out
