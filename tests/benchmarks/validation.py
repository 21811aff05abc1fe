"""A validation of three tasks with solves as they are and compiled, in turn; and a step of training beside it.

One process, with weights that have been trained for some steps. Losses must agree to rounding, and evaluations exactly.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest
import torch

from ode_runner.batch import Split
from ode_runner.build import build_experiment
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.signals import StopRequest
from ode_runner.training.prepare_evaluations import compile_validation
from tests.benchmarks.clock import InTurn, add_pairs
from tests.composition import composition

TASKS = ("half_moons", "lotka_volterra", "density2d")
TRAINED, WARMUP = 100, 2


def main() -> int:
    """0: done; 1: losses or evaluations differ, so that times mean nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.validation", description=__doc__)
    add_pairs(parser, default=15, of="validations of each")
    parser.add_argument("--only", nargs="*", default=TASKS, help="tasks, with other choices behind commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    return max(compare(words.split(","), pairs=options.pairs) for words in options.only)


def compare(words: list[str], *, pairs: int) -> int:
    """Prints medians, and the quartiles of the ratio pair by pair."""
    eager = experiment(words)
    train(eager)
    compiled = replace(eager, integrator=replace(eager.integrator))
    begun = time.process_time()
    compile_validation(compiled, validations=10**9, steps=10**9, say=print)
    seconds = time.process_time() - begun
    ours, theirs = validation(compiled)(), validation(eager)()
    if ours["nfe"] != theirs["nfe"] or ours["loss"] != pytest.approx(theirs["loss"], rel=1e-4):
        print(f"bench: validations of {words[0]} differ: {ours}, {theirs}", file=sys.stderr)
        return 1
    took = InTurn.of(validation(eager), validation(compiled), pairs=pairs, warmup=WARMUP)
    print(
        f"{' '.join(words):<16} NFE {theirs['nfe']:.0f}, uncompiled {1e3 * took.first:.1f} ms, compiled "
        f"{1e3 * took.second:.1f} ms: {took.ratio:.2f} times as fast [{took.low:.2f}, {took.high:.2f}]; compiled in "
        f"{seconds:.1f} s of this process",
        flush=True,
    )
    return 0


def experiment(words: list[str]) -> Experiment:
    cfg = composition(f"task={words[0]}", *words[1:], "trainer.compile=on", "trainer.device=cpu")
    return build_experiment(cfg, cfg.hydra.runtime.choices)


def train(made: Experiment) -> None:
    """By Adam, for the first batches."""
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    made.model.train()
    batches = (b for epoch in range(TRAINED) for b in made.task.batches(Split.TRAIN, batch_size=100, epoch=epoch))
    for batch in islice(batches, TRAINED):
        optimizer.zero_grad()
        made.loss(batch.to(made.dtype)).total.backward()
        optimizer.step()


def validation(made: Experiment) -> Callable[[], dict[str, float]]:
    return lambda: made.evaluate(Split.VALIDATION, StopRequest())


if __name__ == "__main__":
    sys.exit(main())
