"""What steps of each sample's own cost on half-moons: against steps that all samples share, and compiled.

One process, one step of each in turn, with weights trained for 150 steps and then frozen. A batch takes as many
evaluations as its hardest sample, so the times are compared at equal evaluations as well.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.networks.dense import MLPField
from ode_runner.solvers.explicit.dopri5 import Dopri5
from tests.benchmarks.clock import InTurn, add_pairs, quartiles, timed

TOLERANCES = (1e-3, 1e-5)
MODES: tuple[GradientMode, ...] = (Backprop(), Checkpoint())
BATCH, TRAINED, WARMUP = 100, 150, 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.per_sample", description=__doc__)
    add_pairs(parser, default=30, of="steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    field, head = MLPField([2, 64, 64, 2], time=True), nn.Linear(2, 2)
    integrate = Integrator(solver=_dopri5(TOLERANCES[0]), gradient=Backprop())
    step = _training_step(integrate, torch.optim.Adam(_parameters(field, head), lr=1e-2), field, head)
    for _ in range(TRAINED):
        step()
    for tolerance in TOLERANCES:
        for mode in MODES:
            compare(_dopri5(tolerance), mode, field, head, pairs=options.pairs)
        compare_compiled(_dopri5(tolerance), field, head, pairs=options.pairs)
    return 0


def compare(solver: Dopri5, mode: GradientMode, field: MLPField, head: nn.Linear, *, pairs: int) -> None:
    """Prints medians, and the quartiles of the ratio pair by pair."""
    common = Integrator(solver=solver, gradient=mode)
    each = Integrator(solver=replace(solver, per_sample=True), gradient=mode)
    frozen = torch.optim.SGD(_parameters(field, head), lr=0.0)
    steps = [_training_step(integrate, frozen, field, head) for integrate in (common, each)]
    seconds = [[timed(step) for step in steps] for _ in range(WARMUP + pairs)][WARMUP:]
    evaluations = [integrate.ledger.tally.evaluations / (WARMUP + pairs) for integrate in (common, each)]
    first, second = zip(*seconds, strict=True)
    low, ratio, high = quartiles(second, first)
    a, b = (1000 * statistics.median(times) for times in (first, second))
    print(
        f"{solver.rtol:g} {type(mode).__name__.lower():<10} common {a:.1f} ms, each sample {b:.1f} ms: "
        f"{ratio:.2f} times [{low:.2f}, {high:.2f}]; evaluations {evaluations[0]:g} and {evaluations[1]:g}: "
        f"{ratio * evaluations[0] / evaluations[1]:.2f} times at equal evaluations",
        flush=True,
    )


def compare_compiled(solver: Dopri5, field: MLPField, head: nn.Linear, *, pairs: int) -> None:
    """Prints medians of steps of each sample's own, uncompiled and compiled, and the quartiles of the ratio."""
    eager, compiled = (Integrator(solver=replace(solver, per_sample=True), gradient=Backprop()) for _ in range(2))
    compiled.compile(field, _half_moons()[0])
    frozen = torch.optim.SGD(_parameters(field, head), lr=0.0)
    steps = [_training_step(integrate, frozen, field, head) for integrate in (eager, compiled)]
    took = InTurn.of(*steps, pairs=pairs, warmup=WARMUP)
    print(
        f"{solver.rtol:g} backprop   each sample {1e3 * took.first:.1f} ms, compiled {1e3 * took.second:.1f} ms: "
        f"{took.ratio:.2f} times as fast [{took.low:.2f}, {took.high:.2f}]",
        flush=True,
    )


def _dopri5(tolerance: float) -> Dopri5:
    return Dopri5(rtol=tolerance, atol=tolerance, max_steps=10_000)


def _parameters(*modules: nn.Module) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters()]


def _training_step(
    integrate: Integrator, optimizer: torch.optim.Optimizer, field: MLPField, head: nn.Linear
) -> Callable[[], None]:
    (inputs, targets), ts = _half_moons(), torch.tensor([0.0, 1.0])

    def step() -> None:
        loss = F.cross_entropy(head(integrate(field, inputs, ts).ys[-1]), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _half_moons() -> tuple[Tensor, Tensor]:
    inputs, targets = make_moons(BATCH, noise=0.1, random_state=0)
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets)


if __name__ == "__main__":
    sys.exit(main())
