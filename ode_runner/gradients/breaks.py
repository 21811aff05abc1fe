"""Solves of a field that is discontinuous at known times, its breaks: one solve from break to break."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.encoding import Encoding
from ode_runner.fields.ledger import EachSample
from ode_runner.gradients.continuous import warm_started
from ode_runner.problem import Problem, Solution, with_steps_of
from ode_runner.solvers.base import FixedStepSolver, Solver
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.types import Times

Solve = Callable[[Solver, Problem], Solution]


def breaks_of(encoding: Encoding, solver: Solver, ts: Times) -> Sequence[float]:
    """The encoding's breaks, and its knots unless fixed steps end at each of them: one solve costs less than many."""
    met = isinstance(solver, FixedStepSolver) and solver.ends_at(encoding.knots, ts)
    return encoding.breaks if met else [*encoding.breaks, *encoding.knots]


def solve_between_breaks(solve: Solve, solver: Solver, problem: Problem) -> Solution:
    """`solve(solver, problem)` from break to break, so that no step spans one, neither in the backward pass.

    Between two breaks, times are clamped to the open interval, one unit of rounding inside. So all stages of a step see
    the same side of a break, whichever side the field counts the break itself to. After a break, slopes are evaluated
    again; step control goes on with its last size.
    """
    if not problem.breaks:
        return solve(solver, problem)
    edges = edges_of(problem.ts, problem.breaks)
    if not edges:
        return solve(solver, replace(problem, breaks=()))
    solutions, y0, done = list[tuple[Solution, int]](), problem.y0, 1
    for start, end in pairwise(edges):
        ts, count = times_of(problem.ts, done, start, end)
        inside = problem.field.between(*_inside(problem, start, end))
        solution = solve(solver, replace(problem, field=inside, y0=y0, ts=ts, breaks=()))
        inside.observer = None
        solutions.append((solution, count))
        solver, y0, done = _going_on(solver, solution), solution.ys[-1], done + count
    return joined(solutions)


def with_any_span(problem: Problem) -> Problem:
    """A problem with breaks, with a field that clamps no time yet: compiled code for pieces reads the span from it."""
    return replace(problem, field=problem.field.between(-math.inf, math.inf)) if problem.breaks else problem


def _going_on(solver: Solver, solution: Solution) -> Solver:
    """The solver with the last step size of step control, or that of each sample."""
    if isinstance(solver, PerSampleStepping) and solution.each is not None and solution.each.next_steps:
        return replace(solver, first_steps=solution.each.next_steps)
    return warm_started(solver, solution)


def edges_of(ts: Times, breaks: Sequence[float]) -> list[float]:
    """The beginnings and ends of the solves, in the order of the times; empty if no break is within or at the ends."""
    times = read_times(ts)
    begin, end = times[0], times[-1]
    low, high = min(begin, end), max(begin, end)
    within = sorted({b for b in ts.new_tensor(breaks).tolist() if low <= b <= high}, reverse=begin > end)
    return [begin, *(b for b in within if low < b < high), end] if within and low < high else []


def times_of(ts: Tensor, done: int, start: float, end: float) -> tuple[Tensor, int]:
    """The times of the solve from `start` to `end`, and the number of outputs among them, after the first `done`.

    If times have gradients, an edge is a time of its own even if an output coincides with it, because it is constant.
    """
    sign = 1 if end > start else -1
    count = sum(sign * t <= sign * end for t in ts[done:].tolist())
    due = ts[done : done + count]
    begin = ts[:1] if start == ts[0].item() else ts.new_tensor([start])
    stays = ts.requires_grad and done + count < len(ts)
    reached = count > 0 and due[-1].item() == end and not stays
    return torch.cat([begin, due] if reached else [begin, due, ts.new_tensor([end])]), count


def _inside(problem: Problem, start: float, end: float) -> tuple[float, float]:
    """The earliest and the latest time that the field sees between two breaks, in the dtype of the state.

    Both the exact break and the break rounded to the dtype of the times are excluded.
    """
    low, high = min(start, end), max(start, end)
    rounded = zip(problem.ts.new_tensor(problem.breaks).tolist(), problem.breaks, strict=True)
    near = [(one, problem.y0.new_tensor([one, true])) for one, true in rounded if one in (low, high)]
    lows = [_next(pair.max(), math.inf) for one, pair in near if one == low]
    highs = [_next(pair.min(), -math.inf) for one, pair in near if one == high]
    return max(lows, default=-math.inf), min(highs, default=math.inf)


def _next(t: Tensor, towards: float) -> float:
    return float(torch.nextafter(t, torch.full_like(t, towards)))


def joined(solutions: Sequence[tuple[Solution, int]]) -> Solution:
    """One solution from consecutive solves, each with the number of its outputs to use; integrals are added."""
    first, last = solutions[0][0], solutions[-1][0]
    ys, qs = [first.ys[:1]], {name: [q[:1]] for name, q in first.integrals.items()}
    sums = {name: q[0] for name, q in first.integrals.items()}
    for solution, count in solutions:
        ys.append(solution.ys[1 : count + 1])
        for name, q in solution.integrals.items():
            qs[name].append(sums[name] + q[1 : count + 1])
            sums[name] = sums[name] + q[-1]
    whole = replace(last, ys=torch.cat(ys), integrals={name: torch.cat(parts) for name, parts in qs.items()})
    whole = with_steps_of(whole, [part for part, _ in solutions])
    each = [part.each for part, _ in solutions if part.each is not None]
    return _of_all_samples(whole, each) if len(each) == len(solutions) else whole


def _of_all_samples(whole: Solution, solutions: Sequence[EachSample]) -> Solution:
    """`whole` with each sample's counts over all solves; its steps are those of the sample with the most attempts."""
    evaluations, accepted, rejected = (
        torch.stack([getattr(part, name) for part in solutions]).sum(dim=0)
        for name in ("evaluations", "accepted", "rejected")
    )
    failures = {sample: reason for part in solutions for sample, reason in part.failures.items()}
    each = EachSample(evaluations=evaluations, accepted=accepted, rejected=rejected, failures=failures)
    most_accepted, most_rejected = each.most_attempts()
    return replace(whole, each=each, accepted=most_accepted, rejected=most_rejected)
