"""What weights that change with time cost: an evaluation of an expanded field against one of its template, in turn.

A net 2-64-64-2 that reads the time, on a batch of 512, and five functions of each basis.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.models.depth.basis_functions import BASES
from ode_runner.models.depth.galerkin import expanded
from ode_runner.networks.dense import MLPField
from ode_runner.solvers.mapped_field import MappedField
from tests.benchmarks.clock import LEAST_PAIRS, add_pairs, quartiles

BATCH, FUNCTIONS, WARMUP = 512, 5, 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.galerkin", description=__doc__)
    add_pairs(parser, default=400, of="evaluations of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    template = MLPField([2, 64, 64, 2], time=True)
    for name, basis in BASES.items():
        field = expanded(template, basis(FUNCTIONS), 1.0)
        compare(name, [partial(_evaluation, one) for one in (template, field)], pairs=options.pairs)
    each, mapped = (expanded(template, BASES["fourier"](FUNCTIONS), 1.0) for _ in range(2))
    mapped.batched_time = False
    contenders = [partial(_at_times_of_their_own, MappedField(one)) for one in (mapped, each)]
    compare(
        "fourier, a time for each sample: field against torch.vmap",
        contenders,
        pairs=max(LEAST_PAIRS, options.pairs // 10),
    )
    return 0


def compare(name: str, contenders: list[Callable[[Tensor], object]], *, pairs: int) -> None:
    """Prints medians, without and with the way back, and the quartiles of the ratio pair by pair."""
    for differentiated in (False, True):
        y = torch.randn(BATCH, 2, requires_grad=differentiated)
        with torch.set_grad_enabled(differentiated):
            seconds = [[_timed(evaluate, y) for evaluate in contenders] for _ in range(WARMUP + pairs)][WARMUP:]
        first, second = zip(*seconds, strict=True)
        low, ratio, high = quartiles(second, first)
        a, b = (1e6 * statistics.median(times) for times in (first, second))
        what = "forward and backward" if differentiated else "forward"
        print(f"{name}, {what}: {a:.0f} and {b:.0f} us, {ratio:.2f} times [{low:.2f}, {high:.2f}]", flush=True)


def _evaluation(field: VectorField, y: Tensor) -> None:
    _backwards(field(torch.tensor(0.3), y))


def _at_times_of_their_own(field: MappedField, y: Tensor) -> None:
    _backwards(field(torch.linspace(0, 1, BATCH), y))


def _backwards(dy: Tensor) -> None:
    if dy.requires_grad:
        dy.sum().backward()


def _timed(evaluate: Callable[[Tensor], object], y: Tensor) -> float:
    begun = time.process_time()  # of this process alone, whoever else keeps the processor busy
    evaluate(y)
    return time.process_time() - begun


if __name__ == "__main__":
    sys.exit(main())
