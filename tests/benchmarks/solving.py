"""`make bench`: a training step through a solve, by our engine and by torchdiffeq's, on the same equation.

One process, a block of steps of each in turn, as many as fill BLOCK_SECONDS: training takes one step after another, and
a single one between steps of other kinds would find nothing of its own in the processor's caches. Forward, loss,
backward and an optimizer whose learning rate is 0: every step solves the same equation. Before it is timed, our
gradient is compared with backpropagation in double precision along the steps that were taken in single precision.
Compiled steps are those of `trainer.compile=on`.
"""

import argparse
import copy
import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torchdiffeq
from rich.table import Table
from torch import Tensor, nn

from ode_runner.fields.ledger import Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.one_step import AcceptedStep, ExplicitRungeKutta
from tests.benchmarks.clock import add_pairs
from tests.benchmarks.problems import Posed, middle, small
from tests.benchmarks.report import describe, print_rows

OUTPUTS = Path("outputs/bench")
BLOCK_SECONDS = 0.05
Solve = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is solved, by which of their functions, and by which solver and gradient modes of ours."""

    posed: Posed
    theirs: Solve
    solver: ExplicitRungeKutta
    modes: Mapping[str, GradientMode]
    compiled: str  # the mode that is measured with compiled steps as well


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Of one gradient mode in one case; every sample in seconds."""

    case: str
    mode: str
    theirs: list[float]
    ours: list[float]
    their_nfe: int
    nfe_forward: float
    nfe_backward: float
    gradient_error: float
    compile_seconds: float

    @property
    def gradient_within(self) -> float:
        """The relative error that single precision can make along the same steps; a fast wrong gradient is no feat.

        Every evaluation, and every way back through one, rounds the state or its cotangent by about eps, in a way that
        depends on the order of sums and so on the processor: at worst all of these add up. A wrong formula is off by
        more.
        """
        return 2 * self.nfe_forward * torch.finfo(torch.float32).eps

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the median over pairs."""
        return statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True))


def main() -> int:
    """0: done; 1: a gradient is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.solving", description=__doc__)
    add_pairs(parser, default=40, of="blocks of each")
    parser.add_argument("--block", type=float, default=BLOCK_SECONDS, help="seconds of a block; 0: a single step")
    parser.add_argument("--warmup", type=int, default=5, help="steps of each thrown away first (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1: small fields gain nothing)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    environment = describe(torch.device("cpu"))
    findings = [
        finding
        for name, case in cases().items()
        for finding in measure(name, case, options.pairs, options.warmup, block=options.block)
    ]
    show(findings)
    date = datetime.datetime.now().astimezone()
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    path = OUTPUTS / f"solving-{date:%Y-%m-%d-%H%M%S}.json"
    content = {"environment": environment, "options": vars(options), "findings": [asdict(one) for one in findings]}
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"Every sample: {path}")
    wrong = [one for one in findings if one.gradient_error > one.gradient_within]
    for one in wrong:
        off = f"the gradient is off by {one.gradient_error:.1e}, and rounding explains {one.gradient_within:.1e}"
        print(f"bench: {one.case}, {one.mode}: {off}.", file=sys.stderr)
    return 1 if wrong else 0


def cases() -> dict[str, Case]:
    easy, hard = small(), middle()
    step = float(easy.ts[1] - easy.ts[0])
    exact = {"backprop": Backprop(), "checkpoint": Checkpoint()}
    dopri5 = partial(torchdiffeq.odeint, method="dopri5", rtol=easy.tolerance, atol=easy.tolerance)
    adjoint = partial(torchdiffeq.odeint_adjoint, method="dopri5", rtol=easy.tolerance, atol=easy.tolerance)
    tolerant = partial(torchdiffeq.odeint, method="dopri5", rtol=hard.tolerance, atol=hard.tolerance)
    return {
        "small, dopri5": Case(posed=easy, theirs=dopri5, solver=_dopri5(easy), modes=exact, compiled="backprop"),
        "middle, dopri5": Case(posed=hard, theirs=tolerant, solver=_dopri5(hard), modes=exact, compiled="backprop"),
        "small, rk4": Case(
            posed=easy,
            theirs=partial(torchdiffeq.odeint, method="rk4"),
            solver=RK4(num_steps=None, step_size=step),
            modes=exact,
            compiled="backprop",
        ),
        "small, adjoint": Case(
            posed=easy,
            theirs=adjoint,
            solver=_dopri5(easy),
            modes={"adjoint": Adjoint(rtol=None, atol=None)},
            compiled="adjoint",
        ),
    }


def _dopri5(posed: Posed) -> Dopri5:
    return Dopri5(rtol=posed.tolerance, atol=posed.tolerance, max_steps=10_000)


def measure(name: str, case: Case, pairs: int, warmup: int, *, block: float) -> list[Finding]:
    """Ours in every mode and theirs, a block of steps of each in turn."""
    integrators = {mode: Integrator(solver=case.solver, gradient=gradient) for mode, gradient in case.modes.items()}
    compiled = f"{case.compiled}, compiled"
    integrators[compiled] = Integrator(solver=case.solver, gradient=case.modes[case.compiled])
    seconds = {compiled: compile_steps(case.posed, integrators[compiled])}
    steps = {mode: stepper(case.posed, states_of(integrate)) for mode, integrate in integrators.items()}
    steps["theirs"] = stepper(case.posed, case.theirs)
    samples = in_turn(steps, pairs, warmup, block=block)
    their_nfe = _evaluations(case.posed, case.theirs)
    return [
        Finding(
            case=name,
            mode=mode,
            theirs=samples["theirs"],
            ours=samples[mode],
            their_nfe=their_nfe,
            **counts(case.posed, integrate),
            gradient_error=gradient_error(case, integrate) if integrate.gradient.exact else 0.0,
            compile_seconds=seconds.get(mode, 0.0),
        )
        for mode, integrate in integrators.items()
    ]


def in_turn(
    steps: Mapping[str, Callable[[], None]], pairs: int, warmup: int, *, block: float
) -> dict[str, list[float]]:
    """Seconds of a step of each contender, a block of them after another's; first `warmup` that are thrown away.

    A block is as many steps as take `block` seconds, and at least one.
    """
    samples: dict[str, list[float]] = {contender: [] for contender in steps}
    for step in steps.values():
        seconds_of(step, warmup)
    lengths = {contender: max(1, round(block / seconds_of(step, 2))) for contender, step in steps.items()}
    for _ in range(pairs):
        for contender, step in steps.items():
            samples[contender].append(seconds_of(step, lengths[contender]))
    return samples


def seconds_of(step: Callable[[], None], count: int) -> float:
    """Of one step, over one or more. On one thread those of the processor: others' work is not counted."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    for _ in range(count):
        step()
    return (clock() - begun) / max(1, count)


def compile_steps(posed: Posed, integrate: Integrator) -> float:
    """Seconds that it takes; much less where the machine code is in PyTorch's cache from an earlier time."""
    begun = time.perf_counter()
    integrate.compile(posed.field, posed.y0)
    posed.loss(integrate(posed.field, posed.y0, posed.ts).ys).backward()
    return time.perf_counter() - begun


def states_of(integrate: Integrator) -> Solve:
    """The integrator as a function that returns states only, as torchdiffeq's do."""
    return lambda field, y0, ts: integrate(field, y0, ts).ys


def stepper(posed: Posed, solve: Solve) -> Callable[[], None]:
    """A training step that changes nothing."""
    optimizer = torch.optim.RMSprop(posed.field.parameters(), lr=0.0)

    def step() -> None:
        loss = posed.loss(solve(posed.field, posed.y0, posed.ts))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def counts(posed: Posed, integrate: Integrator) -> dict[str, float]:
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = posed.loss(integrate(posed.field, posed.y0, posed.ts).ys)
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    return {"nfe_forward": forward.evaluations, "nfe_backward": backward.evaluations}


def _evaluations(posed: Posed, solve: Solve) -> int:
    """Of the field, by theirs, on the way there and back."""
    calls: list[None] = []
    hook = posed.field.register_forward_hook(lambda *_: calls.append(None))
    posed.loss(solve(posed.field, posed.y0, posed.ts)).backward()
    hook.remove()
    return len(calls)


def gradient_error(case: Case, integrate: Integrator) -> float:
    """Relative distance from backpropagation in double precision along the same steps."""
    posed = case.posed
    with torch.no_grad():
        intervals = [step.interval for step in case.solver.steps(posed.field, posed.y0, posed.ts)]
    loss = posed.loss(integrate(posed.field, posed.y0, posed.ts).ys)
    return distance(torch.autograd.grad(loss, list(posed.field.parameters())), double_gradient(case, intervals))


def double_gradient(case: Case, intervals: Sequence[AcceptedStep]) -> list[Tensor]:
    """By the field's parameters, through our solver's steps at these intervals in double precision."""
    posed, double = case.posed, copy.deepcopy(case.posed.field).double()
    y, ys = posed.y0.double(), [posed.y0.double()]
    for interval in intervals:
        step = case.solver.recompute(double, interval, y)
        y, ys = step.y1, [*ys, *case.solver.outputs(step)]
    return list(torch.autograd.grad((torch.stack(ys) - posed.targets).abs().mean(), list(double.parameters())))


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of two gradients, relative to the length of the second."""
    ours, theirs = (torch.cat([part.double().flatten() for part in parts]) for parts in (found, expected))
    return float((ours - theirs).norm() / theirs.norm())


def show(findings: list[Finding]) -> None:
    """Medians; at most 110 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    headings = ("training step", "mode", "torchdiffeq", "ours", "faster", "NFE theirs", "ours", "off by", "compiled in")
    for heading in headings:
        table.add_column(heading)
    for one in findings:
        theirs, ours = (1000 * statistics.median(samples) for samples in (one.theirs, one.ours))
        table.add_row(
            *(one.case, one.mode, f"{theirs:.2f} ms", f"{ours:.2f} ms", f"{one.ratio:.2f}x", str(one.their_nfe)),
            f"{one.nfe_forward:g} + {one.nfe_backward:g}",
            f"{one.gradient_error:.0e}" if one.gradient_error else "-",
            f"{one.compile_seconds:.0f} s" if one.compile_seconds else "-",
        )
    print_rows(table)


if __name__ == "__main__":
    sys.exit(main())
