"""A training step through the middle net's solve, beside nothing but the operations that it is made of.

`python -m tests.benchmarks.operations`: the operations of a step of ours, those of its way back and of the optimizer
among them, are noted once, and then called one after another on the same tensors, without autograd and without what
Python does between them. A block of that and blocks of our steps, as they are and compiled, are timed in turn.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.table import Table
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from ode_runner.integrator import Integrator
from tests.benchmarks.clock import add_pairs, quartiles
from tests.benchmarks.report import print_rows
from tests.benchmarks.solving import BLOCK_SECONDS, cases, compile_steps, in_turn, states_of, stepper

OPERATIONS = "its operations alone"
WARMUP = 3


class Noted(TorchDispatchMode):
    """Keeps every operation with what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[OpOverload[..., Any], Sequence[Any], Mapping[str, Any]]] = []

    def __torch_dispatch__(
        self, func: OpOverload[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def again(self) -> None:
        """All of them."""
        for function, arguments, options in self.calls:
            function(*arguments, **options)


def main() -> int:
    """Medians, and quartiles of the ratio."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.operations", description=__doc__)
    add_pairs(parser, default=20, of="blocks of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = cases()["middle, dopri5"]
    integrators = {
        name: Integrator(solver=case.solver, gradient=case.modes["backprop"]) for name in ("a step", "compiled")
    }
    compile_steps(case.posed, integrators["compiled"])
    steps = {name: stepper(case.posed, states_of(integrate)) for name, integrate in integrators.items()}
    steps["a step"]()  # makes what the optimizer keeps
    with Noted() as noted:
        steps["a step"]()
    show(
        in_turn({OPERATIONS: noted.again, **steps}, options.pairs, WARMUP, block=BLOCK_SECONDS), count=len(noted.calls)
    )
    return 0


def show(samples: Mapping[str, Sequence[float]], *, count: int) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("net 64-256-64, dopri5", "time", "of the operations' time", "half of blocks"):
        table.add_column(heading)
    for name, seconds in samples.items():
        low, median, high = quartiles(seconds, samples[OPERATIONS])
        spread = "" if name == OPERATIONS else f"{low:.2f} to {high:.2f}"
        table.add_row(name, f"{1000 * statistics.median(seconds):.1f} ms", f"{median:.2f}", spread)
    print_rows(table)
    print(f"{count} operations; seconds of CPU on one thread, load average {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    sys.exit(main())
