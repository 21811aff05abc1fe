"""`make bench-peers`: many small solves at once, each with steps of its own, by our engine and by diffrax under `vmap`.

Lorenz's equations for as many values of rho, from (1, 0, 0) over a unit of time, by tsit5, in double precision, on one
thread; nothing is differentiated. Ours is timed as it is and compiled (`ode.compile`), blocks of solves in turn with
diffrax's under `jax.jit`. The ends of all are compared with those at a tolerance of 1e-10 before anything is timed.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import torch
from rich.table import Table
from torch import Tensor

import ode_runner as ode
from tests.benchmarks.clock import add_pairs, quartiles
from tests.benchmarks.measure import BenchmarkFailed
from tests.benchmarks.peer_diffrax import DiffraxEnsemble
from tests.benchmarks.report import print_rows
from tests.benchmarks.solving import BLOCK_SECONDS, in_turn

jax.config.update("jax_enable_x64", True)

SIGMA, BETA, MOST_RHO = 10.0, 8 / 3, 21.0
TOLERANCE, ALLOWED = 1e-6, 1e-3
SIZES = (100, 1_000, 10_000, 100_000)
WARMUP = 1


def main() -> int:
    """0: done; 1: a solution is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ensembles", description=__doc__)
    add_pairs(parser, default=10, of="blocks of each")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of trajectories")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(
        "trajectories", "by", "time", "of diffrax's", "half of blocks", "off by", box=None, padding=(0, 2, 0, 0)
    )
    try:
        for size in options.sizes:
            for row in rows(size, pairs=options.pairs):
                table.add_row(*row)
    except BenchmarkFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    print_rows(table)
    return 0


def lorenz(t: Tensor, y: Tensor, rho: Tensor) -> Tensor:
    y1, y2, y3 = y.unbind(-1)
    return torch.stack([SIGMA * (y2 - y1), y1 * (rho[..., 0] - y3) - y2, y1 * y2 - BETA * y3], dim=-1)


def lorenz_of_jax(t: jax.Array, y: jax.Array, rho: jax.Array) -> jax.Array:
    return jnp.stack([SIGMA * (y[1] - y[0]), y[0] * (rho[0] - y[2]) - y[1], y[0] * y[1] - BETA * y[2]])


def rows(size: int, *, pairs: int) -> list[tuple[str, ...]]:
    """Of one ensemble.

    Raises:
        BenchmarkFailed: an end is not where it should be.
    """
    rho = torch.linspace(0, MOST_RHO, size, dtype=torch.float64)[:, None]
    y0 = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(size, 3)
    ts = torch.tensor([0.0, 1.0], dtype=torch.float64)
    by = {"solver": "tsit5", "per_sample": True, "rtol": TOLERANCE, "atol": TOLERANCE}
    compiled = ode.compile(lorenz, y0, ts, given=[rho], **by)
    theirs = DiffraxEnsemble(lorenz_of_jax, y0, rho, span=ts.tolist(), tolerance=TOLERANCE)
    solves: dict[str, Callable[[], Tensor]] = {
        "diffrax": theirs.ends,
        "ours": lambda: ode.integrate(lorenz, y0, ts, given=[rho], **by).ys[-1],
        "ours, compiled": lambda: compiled(y0, ts, given=[rho]).ys[-1],
    }
    exact = ode.integrate(lorenz, y0, ts, given=[rho], **by | {"rtol": 1e-10, "atol": 1e-10}).ys[-1]
    errors = {name: float((solve() - exact).abs().max()) for name, solve in solves.items()}
    for name, error in errors.items():
        if not error <= ALLOWED:
            raise BenchmarkFailed(f"{size} trajectories, {name}: off by {error:.1e}; allowed {ALLOWED:.1e}.")
    samples = in_turn(solves, pairs, WARMUP, block=BLOCK_SECONDS)
    return [_row(size, name, samples, errors[name]) for name in solves]


def _row(size: int, name: str, samples: dict[str, list[float]], error: float) -> tuple[str, ...]:
    low, middle, high = quartiles(samples[name], samples["diffrax"])
    compared = ("", "") if name == "diffrax" else (f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
    return (f"{size:,}", name, f"{1e3 * statistics.median(samples[name]):.2f} ms", *compared, f"{error:.0e}")


if __name__ == "__main__":
    sys.exit(main())
