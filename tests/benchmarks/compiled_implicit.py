"""What compiled solves are worth to implicit solvers: a training step with and without.

One process, one step of each in turn, on a net with one hidden layer that does not change. Before they are timed, the
two gradients are compared.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.networks.dense import MLPField
from ode_runner.solvers.base import Solver
from ode_runner.solvers.implicit.implicit_euler import ImplicitEuler
from ode_runner.solvers.implicit.kvaerno3 import Kvaerno3
from ode_runner.solvers.implicit.kvaerno5 import Kvaerno5
from tests.benchmarks.clock import InTurn, add_pairs
from tests.benchmarks.density import distance
from tests.benchmarks.measure import BenchmarkFailed

SIZES = ((2, 50, 20), (16, 64, 128), (32, 128, 256))  # of a state, of the hidden layer, of the batch
SOLVERS: tuple[Solver, ...] = (
    Kvaerno3(rtol=1e-3, atol=1e-3, max_steps=1000, hold=True),
    Kvaerno5(rtol=1e-5, atol=1e-5, max_steps=1000, hold=True),
    ImplicitEuler(num_steps=16, step_size=None),
)
WARMUP, OUTPUTS, ALLOWED = 2, 10, 1e-3


def main() -> int:
    """0: done; 1: a gradient is another one compiled."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compiled_implicit", description=__doc__)
    add_pairs(parser, default=10, of="steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for solver in SOLVERS:
        for size, hidden, batch in SIZES:
            torch.manual_seed(0)
            field, y0 = MLPField([size, hidden, size], time=True), torch.randn(batch, size)
            name = f"{type(solver).__name__.lower():<14}{size}-{hidden}-{size}, batch {batch}"
            try:
                compare(solver, field, y0, pairs=options.pairs, name=name)
            except BenchmarkFailed as failure:
                print(f"bench: {failure}", file=sys.stderr)
                return 1
    return 0


def compare(solver: Solver, field: MLPField, y0: Tensor, *, pairs: int, name: str) -> None:
    """Prints medians, and the quartiles of the ratio pair by pair.

    Raises:
        BenchmarkFailed: the two gradients differ.
    """
    eager, compiled = (gradient_step(solver, field, y0, compiled=wish) for wish in (False, True))
    apart = distance(compiled(), eager())
    if apart > ALLOWED:
        raise BenchmarkFailed(f"{name}: gradients are {apart:.1e} apart.")
    took = InTurn.of(eager, compiled, pairs=pairs, warmup=WARMUP)
    print(
        f"{name:<34} {1e3 * took.first:.1f} ms, compiled {1e3 * took.second:.2f} ms: {took.ratio:.1f} times as fast "
        f"[{took.low:.1f}, {took.high:.1f}]",
        flush=True,
    )


def gradient_step(solver: Solver, field: VectorField, y0: Tensor, *, compiled: bool) -> Callable[[], Tensor]:
    """A function that gives the gradient of a loss at several times."""
    integrate, ts = Integrator(solver=solver, gradient=Backprop()), torch.linspace(0, 1, OUTPUTS)
    if compiled:
        integrate.compile(field, y0)

    def step() -> Tensor:
        field.zero_grad()
        integrate(field, y0, ts).ys.abs().mean().backward()
        return torch.cat([p.grad.flatten() for p in field.parameters() if p.grad is not None])

    return step


if __name__ == "__main__":
    sys.exit(main())
