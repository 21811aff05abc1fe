"""Solves on a GPU without gradients, as in evaluation and sampling, replayed from recordings."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ode_runner.compiling.captured_steps import RecordedSteps
from ode_runner.compiling.python_values import PythonValues
from ode_runner.compiling.recorded_function import RecordedFunction
from ode_runner.compiling.recorded_stepper import pair_of, stepping_recorded
from ode_runner.compiling.solves import CompiledSolve, kind_of_problem, lasting, values_read
from ode_runner.compiling.stepper import check_recordable
from ode_runner.devices.random_state import RandomState
from ode_runner.devices.transfer import read_times
from ode_runner.errors import CannotCompile
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase, Tally
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.one_step import solution_along

FEWEST = 3  # the solve of a kind at which it is recorded, which takes as long as some five solves
MOST = 16  # kinds that are recorded: each keeps the memory of a solve


@final
class RecordedSolves:
    """The recorded solves of one integrator: the third solve of a kind is recorded, and replayed from then on.

    On a fixed grid, a whole solve is one recording; an adaptive solve is recorded step by step. Solves that cannot be
    recorded stay eager.

    Attributes:
        fewest: the solve of a kind at which it is recorded, counted from 1.
    """

    def __init__(self) -> None:
        self.fewest = FEWEST
        self._met: WeakKeyDictionary[nn.Module, dict[Hashable, int]] = WeakKeyDictionary()
        self._solves: dict[Hashable, tuple[CompiledSolve, PythonValues] | None] = {}
        self._refused = ""  # why a solve could not be recorded; "": all could, or `remark` has returned it

    def remark(self) -> str:
        """A sentence for the user if a solve could not be recorded, once; otherwise ""."""
        reason, self._refused = self._refused, ""
        return f"evaluations are not captured: {reason}" if reason else ""

    def solve(self, solver: Solver, problem: Problem, eagerly: CompiledSolve) -> Solution | None:
        """The solution; None if the solve is not recorded."""
        if not _recordable(solver, problem):
            return None
        kind = _kind(solver, problem)
        if kind not in self._solves:
            met = self._met.setdefault(problem.field.field, {})
            met[kind[1:]] = times = met.get(kind[1:], 0) + 1
            if times < self.fewest or len(self._solves) == MOST:
                return None
            self._solves[kind] = self._recorded(solver, problem, eagerly)
        found = self._solves[kind]
        if found is None:
            return None
        recorded, values = found
        if changed := values.changed():
            self._refused, self._solves[kind] = changed, None
            return None
        return recorded(problem)

    def _recorded(
        self, solver: Solver, problem: Problem, eagerly: CompiledSolve
    ) -> tuple[CompiledSolve, PythonValues] | None:
        random = RandomState.now(problem.y0.device)
        try:
            check_recordable(problem)
            values = values_read(problem)
            by_steps = isinstance(solver, AdaptiveSolver)
            return (_BySteps(solver, problem) if by_steps else _AsAWhole(problem, eagerly)), values
        except CannotCompile as reason:
            self._refused = str(reason)
            return None
        finally:
            random.restore()


def _recordable(solver: Solver, problem: Problem) -> bool:
    driven = problem.field.noise is not None and solver.draws
    if not lasting(problem):  # the next solve may have another integrand of the same name
        return False
    return not (driven or problem.breaks or problem.event is not None or len(problem.ts) == 1 or problem.ts.dim() > 1)


def _kind(solver: Solver, problem: Problem) -> tuple[Hashable, ...]:
    """A key, whose first part is the field: problems of one kind differ only in the values of states and given tensors.

    Addresses of parameters are part of it, because a recording reads them there: replacing one makes another kind.
    """
    modules = (problem.field.field, *problem.field.integrals)
    where = tuple(x.data_ptr() for module in modules for x in (*module.parameters(), *module.buffers()))
    times = () if isinstance(solver, AdaptiveSolver) else tuple(read_times(problem.ts))
    return (*kind_of_problem(problem), times, len(problem.ts) > 2, where)


@final
class _AsAWhole:
    """A recorded solve along a fixed grid; a replay adds to the ledger what the recorded solve added."""

    def __init__(self, problem: Problem, eagerly: CompiledSolve) -> None:
        field = problem.field
        self._problem, self._eagerly, self._ledger = problem, eagerly, Ledger()
        self._solution, self._tally = Solution(ys=problem.y0), Tally()
        self._recording = RecordedFunction(self._solved, [problem.y0, *field.given], list(field.field.parameters()))

    def __call__(self, problem: Problem) -> Solution:
        ys, *integrals = self._recording(problem.y0, *problem.field.given)
        problem.field.ledger.tally.add(self._tally)
        return replace(self._solution, ys=ys, integrals=dict(zip(self._solution.integrals, integrals, strict=True)))

    def _solved(self, y0: Tensor, *given: Tensor) -> Sequence[Tensor]:
        options = self._problem.field.options() | {"given": given, "noise": None}
        field = CountedField.around(self._problem.field.field, self._ledger, **options)
        with self._ledger.phase(Phase.EVALUATION) as self._tally:
            solution = self._eagerly(replace(self._problem, field=field, y0=y0))
        if solution.each is not None:
            raise CannotCompile("every sample has steps of its own")
        self._solution = solution
        return [solution.ys, *solution.integrals.values()]


@final
class _BySteps:
    """An adaptive solve by recorded steps, whose sizes are chosen in every solve."""

    def __init__(self, solver: Solver, problem: Problem) -> None:
        field = problem.field
        if field.names:
            raise CannotCompile(f"something is integrated along the solve: {', '.join(field.names)}")
        counted = CountedField.around(field.field, Ledger(), dtype=field.dtype, attached=True)
        leaves = {name: p.detach() for name, p in counted.named_parameters()}
        read: Callable[..., Tensor] = lambda *inputs: functional_call(counted, leaves, inputs)  # noqa: E731
        self._steps = RecordedSteps(pair_of(solver), read, problem.y0, field.given, leaves=[*leaves.values()])
        uncounted = CountedField.around(field.field, Ledger(), **field.options())
        self(replace(problem, field=uncounted))  # which makes the recordings

    def __call__(self, problem: Problem) -> Solution:
        field = problem.field
        solver = stepping_recorded(self._steps, field.ledger, field.given, dense=len(problem.ts) > 2)
        ys, accepted_steps = [problem.y0], []
        for step in solver.steps(field, problem.y0, problem.ts):
            ys += solver.outputs(step)
            accepted_steps.append(step.interval)
        return solution_along(accepted_steps, torch.stack(ys))
