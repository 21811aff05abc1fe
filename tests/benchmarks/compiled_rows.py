"""A table of training steps with and without compiled solves, whose machine code is made anew."""

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence

from rich.table import Table
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.base import Solver
from tests.benchmarks.clock import InTurn, seconds_with_children
from tests.benchmarks.compiled_implicit import ALLOWED, WARMUP, gradient_step
from tests.benchmarks.density import distance
from tests.benchmarks.measure import BenchmarkFailed
from tests.benchmarks.report import print_rows


def print_anew(headings: Sequence[str], rows: Iterable[Callable[[], Sequence[str]]]) -> int:
    """Prints the rows; 0: done; 1: a gradient is another one compiled."""
    table = Table(*headings, box=None, padding=(0, 1, 0, 0))
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # where machine code is kept from one process to the next: none is found
        try:
            for row in rows:
                table.add_row(*row())
        except BenchmarkFailed as failure:
            print(f"bench: {failure}", file=sys.stderr)
            return 1
        finally:
            tempfile.tempdir = None
    print_rows(table)
    return 0


def measured(solver: Solver, field: VectorField, y0: Tensor, name: str, *, pairs: int) -> tuple[InTurn, float]:
    """Steps of each in turn, and the seconds that compiling took.

    Raises:
        BenchmarkFailed: the two gradients differ.
    """
    eager, begun = gradient_step(solver, field, y0, compiled=False), seconds_with_children()
    compiled = gradient_step(solver, field, y0, compiled=True)
    found = compiled()
    seconds = seconds_with_children() - begun
    if (apart := distance(found, eager())) > ALLOWED:
        raise BenchmarkFailed(f"{name}: gradients are {apart:.1e} apart.")
    return InTurn.of(eager, compiled, pairs=pairs, warmup=WARMUP), seconds
