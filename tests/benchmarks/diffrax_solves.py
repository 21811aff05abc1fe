"""`make bench-peers`: a training step through a solve, by our engine and by diffrax's, on the same equation.

The cases of `tests.benchmarks.solving`: the same weights, data and tolerances, a block of steps of each in turn, in one
process and on one thread. Ours is timed as it is and with compiled steps (`trainer.compile=on`); theirs is always
compiled. Each gradient is compared with backpropagation in double precision along the steps that its side has taken.
"""

import argparse
import datetime
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise

import diffrax
import torch
from rich.table import Table

from ode_runner.integrator import Integrator
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.one_step import AcceptedStep
from ode_runner.types import Times
from tests.benchmarks import solving
from tests.benchmarks.clock import add_pairs, quartiles, seconds_with_children
from tests.benchmarks.peer_diffrax import BACKPROP, RK4, Counts, Diffrax
from tests.benchmarks.report import describe, print_rows
from tests.benchmarks.solving import OUTPUTS, Case

WARMUP = 5  # steps of each thrown away first
OF_ADJOINT = 1e-3  # distance allowed where a gradient is that of the equation, not of its steps


@dataclass(frozen=True, kw_only=True)
class Side:
    """One contender in one case; seconds of CPU."""

    seconds: list[float]
    nfe_forward: float
    nfe_backward: float
    gradient_error: float
    gradient_within: float
    compile_seconds: float


def main() -> int:
    """0: done; 1: a gradient is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.diffrax_solves", description=__doc__)
    add_pairs(parser, default=40, of="blocks of each")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    environment = describe(torch.device("cpu")) | {name: version(name) for name in ("diffrax", "jax", "equinox")}
    chosen = {name: case for name, case in solving.cases().items() if options.only in name}
    found = {name: compared(case, options.pairs) for name, case in chosen.items()}
    show(found)
    date = datetime.datetime.now().astimezone()
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    path = OUTPUTS / f"diffrax-{date:%Y-%m-%d-%H%M%S}.json"
    cases = {name: {who: asdict(side) for who, side in sides.items()} for name, sides in found.items()}
    content = {"environment": environment, "options": vars(options), "cases": cases}
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"Every sample: {path}")
    return 1 if _any_wrong(found) else 0


def compared(case: Case, pairs: int) -> dict[str, Side]:
    """diffrax, ours as it is, and ours compiled."""
    mode = case.modes[case.compiled]
    integrators = {name: Integrator(solver=case.solver, gradient=mode) for name in ("ours", "ours, compiled")}
    theirs = Diffrax(case.posed, _their_solver(case), BACKPROP() if mode.exact else diffrax.BacksolveAdjoint())
    compiling = {
        "diffrax": _cpu_seconds(theirs.step),
        "ours": 0.0,
        "ours, compiled": _cpu_seconds(lambda: solving.compile_steps(case.posed, integrators["ours, compiled"])),
    }
    steps = {name: solving.stepper(case.posed, solving.states_of(one)) for name, one in integrators.items()}
    samples = solving.in_turn({"diffrax": theirs.step, **steps}, pairs, WARMUP, block=solving.BLOCK_SECONDS)
    sides = {"diffrax": _their_findings(case, theirs)}
    sides |= {name: _our_findings(case, integrate) for name, integrate in integrators.items()}
    return {
        name: Side(seconds=samples[name], compile_seconds=compiling[name], **findings)
        for name, findings in sides.items()
    }


def _their_solver(case: Case) -> diffrax.AbstractERK:
    return RK4() if isinstance(case.solver, FixedStepSolver) else diffrax.Dopri5()


def _cpu_seconds(call: Callable[[], object]) -> float:
    before = seconds_with_children()
    call()
    return seconds_with_children() - before


def _our_findings(case: Case, integrate: Integrator) -> dict[str, float]:
    counts = solving.counts(case.posed, integrate)
    error = solving.gradient_error(case, integrate)
    return counts | {"gradient_error": error, "gradient_within": _within(case, counts["nfe_forward"])}


def _their_findings(case: Case, theirs: Diffrax) -> dict[str, float]:
    counts = theirs.counted()
    expected = solving.double_gradient(case, _places(case.posed.ts, counts))
    return {
        "nfe_forward": counts.forward,
        "nfe_backward": counts.backward,
        "gradient_error": solving.distance(theirs.gradient(), expected),
        "gradient_within": _within(case, counts.forward),
    }


def _within(case: Case, nfe: float) -> float:
    """As `Finding.gradient_within` of `tests.benchmarks.solving`, where the gradient is that of the steps."""
    return 2 * nfe * torch.finfo(torch.float32).eps if case.modes[case.compiled].exact else OF_ADJOINT


def _places(ts: Times, counts: Counts) -> list[AcceptedStep]:
    """diffrax's steps as ours would be."""
    times, ends = ts.tolist(), counts.ends
    return [
        AcceptedStep(t0=t0, t1=t1, due=[t for t in times if t0 < t <= t1]) for t0, t1 in pairwise([times[0], *ends])
    ]


def _any_wrong(found: dict[str, dict[str, Side]]) -> bool:
    """Each is said."""
    wrong = [
        f"bench: {case}, {who}: the gradient is off by {side.gradient_error:.1e}; allowed {side.gradient_within:.1e}."
        for case, sides in found.items()
        for who, side in sides.items()
        if not side.gradient_error <= side.gradient_within
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


def show(found: dict[str, dict[str, Side]]) -> None:
    """Medians, and quartiles of the ratio to diffrax's time over pairs."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    headings = ("training step", "by", "time", "of diffrax's", "half of pairs", "NFE", "off by", "compiled in")
    for heading in headings:
        table.add_column(heading)
    for case, sides in found.items():
        for who, side in sides.items():
            low, middle, high = quartiles(side.seconds, sides["diffrax"].seconds)
            table.add_row(
                *(case, who, f"{1000 * statistics.median(side.seconds):.2f} ms"),
                *(("", "") if who == "diffrax" else (f"{middle:.2f}", f"{low:.2f} to {high:.2f}")),
                f"{side.nfe_forward:g} + {side.nfe_backward:g}",
                f"{side.gradient_error:.0e}",
                f"{side.compile_seconds:.1f} s" if side.compile_seconds else "-",
            )
    print_rows(table)


if __name__ == "__main__":
    sys.exit(main())
