"""Embedded pairs with separate step size control for every sample of a batch."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.event import Stop
from ode_runner.field import VectorField
from ode_runner.fields.ledger import EachSample
from ode_runner.problem import Solution
from ode_runner.solvers.base import AdaptiveSolver, check_batch
from ode_runner.solvers.event_search import EventSearch
from ode_runner.solvers.initial_step import chosen_step, noticeable, trial_step
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.one_step import ExplicitRungeKutta
from ode_runner.solvers.packed_field import PackedField, solve_packed
from ode_runner.solvers.sample_clocks import SampleClocks
from ode_runner.solvers.sample_events import met_event
from ode_runner.solvers.sample_step import Attempt, Due, Journal, Round, Stepped, along_rows, outputs, take
from ode_runner.solvers.solve_statistics import SolveStatistics
from ode_runner.solvers.step_control import StepControl
from ode_runner.solvers.tableau import EmbeddedTableau, advance
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class PerSampleStepping(ExplicitRungeKutta, AdaptiveSolver, StepControl):
    """With `per_sample`, every sample has its own step sizes, error norm and failures, as if it were solved alone.

    The samples share calls of the field. A round is one attempted step of every sample that has not finished. So there
    are as many rounds as the hardest sample needs attempts, on ever smaller batches. If gradients are recorded and a
    rejected attempt has NaN or infinite derivatives, the whole round is discarded and the other samples stay where they
    were: in the backward pass, zero cotangents times infinite derivatives would be NaN.

    Lienen, Günnemann. torchode: A Parallel ODE Solver for PyTorch. The Symbiosis of Deep Learning and Differential
    Equations II, NeurIPS 2022.
    """

    tableau: ClassVar[EmbeddedTableau]
    per_sample: bool = False
    first_steps: tuple[float, ...] = ()  # of each sample; set after a break

    @abc.abstractmethod
    def diagnosis(self, statistics: SolveStatistics, t: float, y: State, f: State) -> str:
        """A sentence: where the solve stopped, by which limit, and why."""

    @property
    def treats_samples_alone(self) -> bool:
        return self.per_sample

    def check_state(self, y0: State) -> None:
        if self.per_sample:
            check_batch(y0)

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        if not self.per_sample:
            return super().solve(field, y0, ts)
        return solve_packed(partial(self.solve_noting, journal=None), field, y0, ts)

    def solve_noting(self, field: VectorField, y0: State, ts: Times, journal: Journal | None) -> Solution:
        """`solve_each` at times (time,), common to all samples, or (time, batch).

        Raises:
            SolverFailed: a sample did not reach its last time; the message names it.
        """
        solution = self.solve_each(field, y0, ts if ts.dim() == 2 else ts[:, None].expand(-1, len(y0)), journal)
        if solution.each is not None and solution.each.failures:
            raise SolverFailed(self._in_words(solution.each.failures, len(y0)))
        return solution

    def solve_each(self, field: VectorField, y0: State, ts: Tensor, journal: Journal | None = None) -> Solution:
        """States at `ts` (time, batch): each sample at its own times, forwards or backwards from the first.

        If a sample fails, the others go on; its values are NaN after the failure. Accepted steps are appended to the
        `journal`, so that they can be recomputed.
        """
        return _Rounds(self, field, y0, ts, journal).solve()

    def _in_words(self, failures: Mapping[int, str], batch: int) -> str:
        first = min(failures)
        number, among = (first, batch) if self.sought is None else (self.sought.numbers[first], self.sought.batch)
        others = f" {len(failures) - 1} more of its batch failed too." if len(failures) > 1 else ""
        return f"sample {number} of {among}: {failures[first]}{others}"


class _Rounds:
    """One solve. `y`, `f` and `field` have one row for each sample that has not finished."""

    def __init__(
        self, solver: PerSampleStepping, field: VectorField, y0: State, ts: Tensor, journal: Journal | None
    ) -> None:
        self.journal = journal
        self.solver, self.tableau, self.of_all = solver, solver.tableau, MappedField(field)
        self.clocks = SampleClocks(ts, solver, order=solver.order)
        self.y0, self.shape = y0, (*ts.shape, *y0.shape[1:])
        self.values, self.places = [y0], [torch.arange(len(y0))]  # places in the flat (time, batch)
        for time, at_start in enumerate((ts[1:] == ts[:1]).cpu(), start=1):
            samples = at_start.nonzero().flatten()
            self._put(y0[samples], torch.tensor(time), samples)
        sought = solver.sought
        self.search = None if sought is None else EventSearch(sought)
        self.first = None if sought is None else sought.sizes  # step sizes of the samples
        if solver.first_steps:
            self.first = torch.tensor(solver.first_steps, dtype=torch.float64)
        self.stops = torch.full((len(y0),), torch.nan, dtype=torch.float64)
        self.ahead = torch.zeros(len(y0), dtype=torch.float64)  # step sizes that control would try next
        self.failures: dict[int, str] = {}
        self.dense = torch.zeros(len(y0), dtype=torch.int64)  # number of accepted steps with outputs inside

    def solve(self) -> Solution:
        clocks = self.clocks
        if len(clocks.active):
            self._begin()
        while len(clocks.active):
            attempt = clocks.attempt()
            failed = clocks.failed(attempt, max_steps=self.solver.max_steps)
            if failed is not None:
                self._give_up(failed)
            else:
                self._round(attempt)
        return self._solution()

    def _begin(self) -> None:
        """Compute slopes and first step sizes at the beginning."""
        clocks, rows = self.clocks, self.clocks.active
        self.field = self.of_all.of(rows)
        self.y = self.y0 if len(rows) == len(self.y0) else self.y0[rows]
        self.field.check_declared(torch.stack([clocks.t[0], clocks.end[0]]).to(self.y), self.y)
        self.f = self.newest = self.field(clocks.t.to(self.y), self.y)
        sizes = [noticeable(dt, t) for dt, t in zip(self._first_sizes(rows), clocks.t.tolist(), strict=True)]
        clocks.begin(torch.tensor(sizes, dtype=torch.float64))

    def _first_sizes(self, rows: Tensor) -> list[float]:
        """First step sizes of the samples `rows`: after an event or a break, else by the solver, else chosen."""
        if self.first is not None:
            return self.first[rows].tolist()
        return [self.solver.first_step] * len(rows) if self.solver.first_step else self._chosen_sizes()

    @torch.no_grad()
    def _chosen_sizes(self) -> list[float]:
        """`initial_step` for every row."""
        clocks = self.clocks
        scale = self.solver.atol + self.solver.rtol * self.y.abs()
        d0, d1 = (self._norms(x, scale).tolist() for x in (self.y, self.f))
        sound = [a + b < torch.inf for a, b in zip(d0, d1, strict=True)]  # written so that NaN gives False
        norms = zip(sound, d0, d1, (clocks.end - clocks.t).tolist(), strict=True)
        trials = [trial_step(state, slope, span) if good else 0.0 for good, state, slope, span in norms]
        dt = clocks.sign * torch.tensor(trials, dtype=torch.float64)
        f1 = self.field((clocks.t + dt).to(self.y), torch.addcmul(self.y, along_rows(dt, self.y), self.f))
        change = self._norms(f1 - self.f, scale).tolist()
        return [
            chosen_step(h, slope, d / h, self.solver.order) if h else 0.0
            for h, slope, d in zip(trials, d1, change, strict=True)
        ]

    def _round(self, attempt: Attempt) -> None:
        """One attempted step of every row."""
        clocks, tableau = self.clocks, self.tableau
        step = take(self.field, tableau, attempt, self.y, self.f, last=tableau.first_same_as_last)
        accepted = self._judge(attempt, step)
        self.newest = (step.ks[-1] if step.f1 is None else step.f1).detach()
        if not bool(accepted.any()):
            return
        f0, self.y = self.f, _moved(step.y1, step.y0, accepted)
        if step.f1 is None:
            self.f = self.field(clocks.t.to(self.y), self.y)
            step = step._replace(f1=self.f)
        else:
            self.f = _moved(step.f1, self.f, accepted)
        if self.search is not None:
            attempt, step = self._stopped(self.search, attempt, step, f0, accepted.nonzero().flatten())
        due = clocks.due(attempt, accepted)
        if self.journal is not None:
            taken = step.y0 if bool(accepted.all()) else step.y0[accepted.to(step.y0.device)]
            self.journal.append((Round.of_accepted(attempt, due or Due.none(), clocks.active, accepted), taken))
        if due is not None:
            self.dense[due.samples[due.ends :].unique()] += 1
            self._put(outputs(self.field, tableau, attempt, due, step), due.time_indices, due.samples)
            self._keep(clocks.arrived())

    def _stopped(
        self, search: EventSearch, attempt: Attempt, step: Stepped, f0: State, rows: Tensor
    ) -> tuple[Attempt, Stepped]:
        """Shorten the steps of accepted `rows` that meet the event, and end their spans there."""
        clocks = self.clocks
        self.ahead[clocks.active[rows]] = clocks.dt[rows]
        met = met_event(search, self.field, self.tableau, attempt, step, f0, rows=rows, samples=clocks.active)
        if met is None:
            return attempt, step
        rows, t, cut = met
        clocks.stop(rows, t)
        self.stops[clocks.active[rows]] = t
        there, step = rows.to(self.y.device), step.with_rows(rows, cut)
        assert step.f1 is not None
        self.y = self.y.index_put((there,), step.y1[there])
        self.f = self.f.index_put((there,), step.f1[there])
        return Attempt(t0=attempt.t0, t1=attempt.t1.index_put((rows,), t)), step

    def _judge(self, attempt: Attempt, step: Stepped) -> Tensor:
        """Which rows are accepted; none if a rejected row has NaN or infinity: then only the rejected are judged."""
        errors = self._errors(step)
        if torch.is_grad_enabled() and not self._finite(step, errors > 1):
            return self.clocks.judge(attempt, errors, errors > 1)
        return self.clocks.judge(attempt, errors)

    @torch.no_grad()
    def _errors(self, step: Stepped) -> Tensor:
        """Estimated local errors in units of the tolerance, float64 (rows,) on the CPU; NaN counts as infinite."""
        difference = advance(torch.zeros_like(step.y1), 1.0, self.tableau.b_error, step.slopes())
        tolerance = self.solver.atol + self.solver.rtol * torch.maximum(step.y0.abs(), step.y1.abs())
        return self._norms(difference, tolerance).nan_to_num(nan=torch.inf)

    def _norms(self, x: State, scale: Tensor) -> Tensor:
        """Error norms of the rows of x / scale; with integrals in the state, the largest of state and judged ones."""
        if not isinstance(self.of_all.field, PackedField):
            return _norms(x, scale)
        blocks = zip(self.of_all.field.blocks(x), self.of_all.field.blocks(scale), strict=True)
        return torch.stack([_norms(*block) for block in blocks]).amax(dim=0)

    def _finite(self, step: Stepped, rows: Tensor) -> bool:
        """Whether all derivatives of the `rows` are finite."""
        there = rows.nonzero().flatten().to(self.y.device)
        ks = step.ks if step.f1 is None else [*step.ks, step.f1]
        return not len(there) or bool(torch.stack([k.detach() for k in ks])[:, there].isfinite().all())

    def _put(self, states: State, places: Tensor, samples: Tensor) -> None:
        """Store states of `samples` at the output times with indices `places`."""
        self.values.append(states)
        self.places.append(places * self.shape[1] + samples)

    def _keep(self, gone: Tensor) -> None:
        """Drop the rows that are `gone`."""
        if not bool(gone.any()):
            return
        left = self.clocks.leave(gone).to(self.y.device)
        self.y, self.f, self.newest = self.y[left], self.f[left], self.newest[left]
        self.field = self.of_all.of(self.clocks.active)

    def _give_up(self, failed: Tensor) -> None:
        clocks = self.clocks
        for row in failed.nonzero().flatten().tolist():
            sample, statistics = int(clocks.active[row]), SolveStatistics()
            statistics.accepted, statistics.rejected = int(clocks.row_accepted[row]), int(clocks.row_rejected[row])
            statistics.sizes.extend(clocks.last_sizes(sample))
            statistics.newest = self.newest[row]
            self.failures[sample] = self.solver.diagnosis(statistics, float(clocks.t[row]), self.y[row], self.f[row])
            late = torch.arange(int(clocks.next[row]), self.shape[0])
            self._put(self.y0.new_full((len(late), *self.shape[2:]), torch.nan), late, torch.tensor(sample))
        self._keep(failed)

    def _solution(self) -> Solution:
        clocks, tableau = self.clocks, self.tableau
        accepted, attempts = clocks.accepted, clocks.accepted + clocks.rejected
        beginning = (attempts > 0) * (1 if self.solver.first_step or self.first is not None else 2)
        afresh = 0 if tableau.first_same_as_last else accepted
        dense = self.dense if self.search is None else self.dense + accepted
        cut = 2 * tableau.stages * self.stops.isnan().logical_not()
        evaluations = beginning + (len(tableau.b) - 1) * attempts + afresh + len(tableau.extra_stages) * dense + cut
        order = torch.cat(self.places).argsort().to(self.y0.device)
        each = EachSample(
            evaluations=evaluations,
            accepted=accepted,
            rejected=clocks.rejected,
            failures=self.failures,
            next_steps=tuple(clocks.ahead.tolist()),
        )
        most_accepted, most_rejected = each.most_attempts()
        return Solution(
            ys=torch.cat(self.values)[order].view(self.shape),
            accepted=most_accepted,
            rejected=most_rejected,
            each=each,
            stop=None if self.search is None else Stop(times=self.stops, sizes=self.ahead),
        )


def _moved(there: Tensor, here: Tensor, accepted: Tensor) -> Tensor:
    """Rows of `there` for accepted attempts, else of `here`."""
    return there if bool(accepted.all()) else torch.where(along_rows(accepted, there).bool(), there, here)


def _norms(x: State, scale: Tensor) -> Tensor:
    """Root mean square of each row of x / scale, float64 on the CPU; also if squares of finite numbers overflow."""
    x, scale = x.detach().reshape(len(x), -1), scale.reshape(len(x), -1)
    found = _rms_of_rows(x / scale)
    if bool(found.isfinite().all()):
        return found
    largest = x.abs().amax(dim=1, keepdim=True)
    return torch.where(found.isinf(), largest[:, 0].cpu().double() * _rms_of_rows(x / largest / scale), found)


def _rms_of_rows(x: Tensor) -> Tensor:
    return x.square().mean(dim=1).sqrt().cpu().double()
