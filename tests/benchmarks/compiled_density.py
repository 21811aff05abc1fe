"""What compiled solves are worth to a continuous flow: a training step by each gradient mode, with and without.

One process, one step of each in turn, with the weights of `density`, trained and then frozen. Before they are timed,
the two gradients are compared.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.seminorm import Seminorm
from ode_runner.integrator import Integrator
from ode_runner.models.density import TRACE
from ode_runner.models.flows.cnf import ContinuousFlow
from tests.benchmarks.clock import InTurn, add_pairs
from tests.benchmarks.density import distance, dopri5, trained
from tests.benchmarks.measure import BenchmarkFailed

SIZES = ((100, 16), (512, 64))  # batch, and width of the three layers
MODES: tuple[GradientMode, ...] = (Backprop(), Adjoint(rtol=None, atol=None), Seminorm(rtol=None, atol=None))
WARMUP, TOLERANCE, ALLOWED = 2, 1e-3, 1e-4


def main() -> int:
    """0: done; 1: a gradient is another one compiled."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compiled_density", description=__doc__)
    add_pairs(parser, default=20, of="steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for batch, width in SIZES:
        model, points = trained(batch=batch, width=width)
        for mode in MODES:
            try:
                compare(model, points, mode, pairs=options.pairs, name=f"batch {batch}, width {width}")
            except BenchmarkFailed as failure:
                print(f"bench: {failure}", file=sys.stderr)
                return 1
    return 0


def compare(model: ContinuousFlow, points: Tensor, mode: GradientMode, *, pairs: int, name: str) -> None:
    """Prints medians, and the quartiles of the ratio pair by pair.

    Raises:
        BenchmarkFailed: the two gradients differ.
    """
    eager, compiled = (gradient_step(model, points, mode, compiled=wish) for wish in (False, True))
    apart = distance(compiled(), eager())
    if apart > ALLOWED:
        raise BenchmarkFailed(f"{type(mode).__name__}, {name}: gradients are {apart:.1e} apart.")
    took = InTurn.of(eager, compiled, pairs=pairs, warmup=WARMUP)
    print(
        f"{name}, {type(mode).__name__.lower():<9} {1e3 * took.first:.1f} ms, compiled {1e3 * took.second:.1f} ms: "
        f"{took.ratio:.2f} times as fast [{took.low:.2f}, {took.high:.2f}]",
        flush=True,
    )


def gradient_step(model: ContinuousFlow, points: Tensor, mode: GradientMode, *, compiled: bool) -> Callable[[], Tensor]:
    """A function that gives the gradient of the density's loss."""
    integrate, ts = Integrator(solver=dopri5(TOLERANCE), gradient=mode), points.new_tensor([0.0, 1.0])
    if compiled:
        integrate.compile(model.field, points, integrals={TRACE: model.exact_trace})

    def step() -> Tensor:
        model.zero_grad()
        (-model(points, ts, integrate).values.mean()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    return step


if __name__ == "__main__":
    sys.exit(main())
