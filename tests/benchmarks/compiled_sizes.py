"""After how many training steps compiling has repaid itself, by the size of the net: why `trainer.compile=auto` waits.

One process, one step of each in turn, on nets with one hidden layer that do not change; machine code is made anew.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.networks.dense import MLPField
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.one_step import ExplicitRungeKutta
from tests.benchmarks.clock import add_pairs
from tests.benchmarks.compiled_rows import measured, print_anew

DOPRI5 = Dopri5(rtol=1e-3, atol=1e-3, max_steps=1000)
OF_ITS_OWN = replace(DOPRI5, per_sample=True)
RK4_STEPS = RK4(num_steps=9, step_size=None)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A net with one hidden layer on a batch, and who solves it."""

    size: int
    hidden: int
    batch: int
    solver: ExplicitRungeKutta

    @property
    def name(self) -> str:
        return f"{self.size}-{self.hidden}-{self.size}, {self.batch}"

    @property
    def solver_name(self) -> str:
        return f"{type(self.solver).__name__.lower()}{', each' if self.solver == OF_ITS_OWN else ''}"


CASES = (
    Case(size=2, hidden=50, batch=20, solver=DOPRI5),
    Case(size=2, hidden=64, batch=128, solver=DOPRI5),
    Case(size=2, hidden=64, batch=128, solver=RK4_STEPS),
    Case(size=16, hidden=128, batch=256, solver=DOPRI5),
    Case(size=16, hidden=128, batch=256, solver=OF_ITS_OWN),
    Case(size=32, hidden=128, batch=512, solver=DOPRI5),
    Case(size=32, hidden=128, batch=512, solver=OF_ITS_OWN),
    Case(size=64, hidden=256, batch=512, solver=RK4_STEPS),
    Case(size=64, hidden=256, batch=512, solver=OF_ITS_OWN),
    Case(size=64, hidden=512, batch=512, solver=DOPRI5),
    Case(size=128, hidden=512, batch=512, solver=DOPRI5),
)
HEADINGS = ("net, batch", "solver", "NFE", "work", "eager", "compiled", "times as fast", "compiled in", "repaid after")


def main() -> int:
    """0: done; 1: a gradient is another one compiled."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compiled_sizes", description=__doc__)
    add_pairs(parser, default=10, of="steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    return print_anew(HEADINGS, (partial(row_of, case, pairs=options.pairs) for case in CASES))


def row_of(case: Case, *, pairs: int) -> tuple[str, ...]:
    """A row of the table.

    Raises:
        BenchmarkFailed: the two gradients differ.
    """
    torch.manual_seed(0)
    field, y0 = MLPField([case.size, case.hidden, case.size], time=True), torch.randn(case.batch, case.size)
    took, seconds = measured(case.solver, field, y0, f"{case.name}, {case.solver_name}", pairs=pairs)
    repaid = f"{seconds / (took.first - took.second):,.0f} steps" if took.second < took.first else "never"
    return (
        *(case.name, case.solver_name, f"{_evaluations(case, field, y0):.0f}", f"{_work(case):.2g}"),
        *(f"{1e3 * took.first:.1f} ms", f"{1e3 * took.second:.2f} ms"),
        *(f"{took.ratio:.2f} [{took.low:.2f}, {took.high:.2f}]", f"{seconds:.1f} s", repaid),
    )


def _evaluations(case: Case, field: MLPField, y0: Tensor) -> float:
    integrate = Integrator(solver=case.solver, gradient=Backprop())
    with torch.no_grad(), integrate.ledger.phase(Phase.FORWARD) as forward:
        integrate(field, y0, torch.linspace(0, 1, 10))
    return forward.evaluations


def _work(case: Case) -> float:
    """Multiplications and additions of an evaluation."""
    return 2 * case.batch * case.hidden * (2 * case.size + 1)


if __name__ == "__main__":
    sys.exit(main())
