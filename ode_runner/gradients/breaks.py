"""One solve a piece, where a field jumps at known times."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from ode_runner.gradients.continuous import warm_started
from ode_runner.ledger import EachSample
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.transfer import read_times
from ode_runner.types import Times

Solve = Callable[[Solver, Problem], Solution]


def solve_in_pieces(solve: Solve, solver: Solver, problem: Problem) -> Solution:
    """`solve(solver, problem)` from break to break, so that no step spans one, on the way back neither.

    In a piece the field sees times of that piece alone, a unit of rounding inside where it ends at a break: so the last
    stage of a step sees the same side of it as the first, whichever side the field counts the break itself to. Slopes
    are evaluated anew at a break; step control goes on with its last size.
    """
    if not problem.breaks:
        return solve(solver, problem)
    edges = edges_of(problem.ts, problem.breaks)
    if not edges:
        return solve(solver, replace(problem, breaks=()))
    pieces, y0, done = list[tuple[Solution, int]](), problem.y0, 1
    for start, end in pairwise(edges):
        ts, count = times_of(problem.ts, done, start, end)
        inside = problem.field.between(*_inside(problem, start, end))
        solution = solve(solver, replace(problem, field=inside, y0=y0, ts=ts, breaks=()))
        inside.observer = None
        pieces.append((solution, count))
        solver, y0, done = warm_started(solver, solution), solution.ys[-1], done + count
    return joined(pieces)


def edges_of(ts: Times, breaks: Sequence[float]) -> list[float]:
    """Where pieces begin and end, in the order of the times; none where there is no break within or at their ends."""
    times = read_times(ts)
    begin, end = times[0], times[-1]
    low, high = min(begin, end), max(begin, end)
    within = sorted({b for b in ts.new_tensor(breaks).tolist() if low <= b <= high}, reverse=begin > end)
    return [begin, *(b for b in within if low < b < high), end] if within and low < high else []


def times_of(ts: Tensor, done: int, start: float, end: float) -> tuple[Tensor, int]:
    """The times of a piece, and how many of them are outputs: those after the first `done`, up to its end."""
    sign = 1 if end > start else -1
    count = sum(sign * t <= sign * end for t in ts[done:].tolist())
    due = ts[done : done + count]
    begin = ts[:1] if start == ts[0].item() else ts.new_tensor([start])
    reached = count > 0 and due[-1].item() == end
    return torch.cat([begin, due] if reached else [begin, due, ts.new_tensor([end])]), count


def _inside(problem: Problem, start: float, end: float) -> tuple[float, float]:
    """The earliest and the latest time that the field sees in a piece, in the type of the state.

    A break that the times' own type has rounded is kept away from as it is, too.
    """
    low, high = min(start, end), max(start, end)
    rounded = zip(problem.ts.new_tensor(problem.breaks).tolist(), problem.breaks, strict=True)
    near = [(one, problem.y0.new_tensor([one, true])) for one, true in rounded]
    lows = [_next(pair.max(), math.inf) for one, pair in near if one == low]
    highs = [_next(pair.min(), -math.inf) for one, pair in near if one == high]
    return max(lows, default=-math.inf), min(highs, default=math.inf)


def _next(t: Tensor, towards: float) -> float:
    return float(torch.nextafter(t, torch.full_like(t, towards)))


def joined(pieces: Sequence[tuple[Solution, int]]) -> Solution:
    """The outputs of pieces, of each so many, one after another; integrals go on where they were."""
    first, last = pieces[0][0], pieces[-1][0]
    ys, qs = [first.ys[:1]], {name: [q[:1]] for name, q in first.integrals.items()}
    sums = {name: q[0] for name, q in first.integrals.items()}
    for solution, count in pieces:
        ys.append(solution.ys[1 : count + 1])
        for name, q in solution.integrals.items():
            qs[name].append(sums[name] + q[1 : count + 1])
            sums[name] = sums[name] + q[-1]
    smallest = [piece.smallest_step for piece, _ in pieces if piece.smallest_step is not None]
    whole = replace(
        last,
        ys=torch.cat(ys),
        integrals={name: torch.cat(parts) for name, parts in qs.items()},
        accepted=sum(piece.accepted for piece, _ in pieces),
        rejected=sum(piece.rejected for piece, _ in pieces),
        smallest_step=min(smallest, default=None),
    )
    each = [piece.each for piece, _ in pieces if piece.each is not None]
    return _of_all_samples(whole, each) if len(each) == len(pieces) else whole


def _of_all_samples(whole: Solution, pieces: Sequence[EachSample]) -> Solution:
    """With what every sample took of all pieces; the whole's steps are those of the sample with the most attempts."""
    evaluations, accepted, rejected = (
        torch.stack([getattr(piece, name) for piece in pieces]).sum(dim=0)
        for name in ("evaluations", "accepted", "rejected")
    )
    failures = {sample: reason for piece in pieces for sample, reason in piece.failures.items()}
    each = EachSample(evaluations=evaluations, accepted=accepted, rejected=rejected, failures=failures)
    hardest = int((accepted + rejected).argmax())
    return replace(whole, each=each, accepted=int(accepted[hardest]), rejected=int(rejected[hardest]))
