"""A solver and a gradient mode together: the only numerics that a model sees."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from ode_runner.compiling.each_kernel import compile_each_kernel, each_on_gpu
from ode_runner.compiling.exact import compile_exact, compile_exact_piece
from ode_runner.compiling.integrator_solves import IntegratorSolves
from ode_runner.compiling.recorded_solves import RecordedSolves
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.devices.transfer import may_wait, own_times
from ode_runner.encoding import Encoding, state_and_given
from ode_runner.errors import IncompatibleChoice
from ode_runner.event import Event, Jumps
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.counted_field import Call, CountedField, fitted, name_of
from ode_runner.fields.ledger import Ledger
from ode_runner.fields.precision import in_full_precision, in_joint_precision
from ode_runner.fields.structured_field import kind_of
from ode_runner.gradients.base import GradientMode, check_solution
from ode_runner.gradients.breaks import breaks_of, solve_between_breaks, with_any_span
from ode_runner.gradients.event_checks import check_event, check_takes_events
from ode_runner.gradients.events import solve_to_events
from ode_runner.gradients.field_checks import check_differentiable
from ode_runner.gradients.function_transforms import told_of_transforms
from ode_runner.gradients.jumps import solve_between_jumps
from ode_runner.gradients.observation import FieldObservations
from ode_runner.gradients.recomputation import redrawable
from ode_runner.gradients.time_gradients import with_time_gradients
from ode_runner.integral import NONE, Integral
from ode_runner.noise.brownian_path import Noise
from ode_runner.problem import (
    Problem,
    Solution,
    check_given,
    check_kinds,
    check_solvable,
    solution_without_elements,
)
from ode_runner.solvers.base import Solver, solver_along
from ode_runner.solvers.independent_samples import check_independent
from ode_runner.solvers.mapped_field import call_mapped
from ode_runner.solvers.problem_checks import check_takes
from ode_runner.types import State, Time, Times


@dataclass(frozen=True, kw_only=True)
class Integrator:
    """Solves differential equations for a model and counts evaluations and steps in the ledger.

    `field_dtype` is a lower precision for evaluations of the field; state and time keep theirs. `records`: on a GPU,
    solves without gradients are recorded as CUDA graphs once they are repeated.
    """

    solver: Solver
    gradient: GradientMode
    field_dtype: torch.dtype | None = None
    records: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    _compiled: IntegratorSolves = field(default_factory=IntegratorSolves, init=False, repr=False, compare=False)
    _recorded: RecordedSolves = field(default_factory=RecordedSolves, init=False, repr=False, compare=False)
    _observations: FieldObservations = field(default_factory=FieldObservations, init=False, repr=False, compare=False)

    def compile(
        self,
        field: VectorField,
        y0: State,
        *,
        given: Sequence[Tensor] = (),
        integrals: Mapping[str, Integral] = NONE,
        breaks: bool = False,
        fuses: bool = False,
        always: bool = False,
        differentiated: bool = True,
    ) -> CompiledSolve:
        """From now on, solves of this field with gradients are compiled, if they are like this one.

        A solve is like this one if the field is in the same mode (training or evaluation), if states and given tensors
        have the shapes, dtypes and requires_grad of `y0` and `given`, and if it has these `integrals`, and breaks or
        none.

        Args:
            field: the field.
            y0: an example of a state.
            given: examples of the tensors that the field receives after time and state.
            integrals: their integrands must be modules, methods or functions defined in a file. On a GPU, steps with
                integrals are compiled only if every sample has its own steps.
            breaks: compile solves from break to break instead, for problems with breaks; on a CPU, without integrals.
            fuses: on a GPU, where steps are recorded: compile the field into fused kernels first.
            always: compile solves without gradients, too. On a GPU, only if every sample has its own steps.
            differentiated: False: on a GPU and with `always`, if every sample has its own steps, compile only solves
                without gradients. The same holds if the gradient mode is not exact.

        Raises:
            CannotCompile: this field, solver or gradient mode cannot be compiled.
        """
        given = [*given, *(z for integral in integrals.values() for z in integral.given)]
        counted = self._counted(field, given, integrals, None)
        problem = with_any_span(Problem(field=counted, y0=y0, ts=y0.new_zeros(1), breaks=[0.0] * breaks))
        solver, apart = solver_along(self.solver, field), always and each_on_gpu(self.solver, y0)
        if breaks:
            return self._compile_pieces(solver, problem, always=always)
        back = not apart or (differentiated and self.gradient.exact)
        if apart:
            solve = compile_each_kernel(solver, problem, eager=partial(self.gradient.solve, solver), back=back)
        else:
            solve = self._compiled.with_gradients.find(problem) or self.gradient.compiled(solver, problem, fuses=fuses)
        if back:
            self._compiled.with_gradients.add(problem, solve)
        if always and (apart or y0.device.type == "cpu"):
            self._compiled.without.add(problem, solve)
        return solve

    def _compile_pieces(self, solver: Solver, problem: Problem, *, always: bool) -> CompiledSolve:
        piece = self._compiled.pieces.find(problem) or self.gradient.compiled_piece(solver, problem)
        self._compiled.add_piece(problem, piece, always=always)
        return partial(piece, solver)

    def compile_evaluation(self, problem: Problem) -> CompiledSolve:
        """From now on, solves of the problem's field without gradients are compiled, if they are like this one.

        For the CPU only. Compilation happens at the first such solve.

        Raises:
            CannotCompile: these solves cannot be compiled.
        """
        solver = solver_along(self.solver, problem.field.field)
        if problem.breaks:
            piece = compile_exact_piece(solver, with_any_span(problem))
            self._compiled.pieces_without.add(problem, piece)
            return partial(piece, solver)
        solve = compile_exact(solver, problem, keeps=False, eager=partial(self.gradient.solve, solver))
        self._compiled.without.add(problem, solve)
        return solve

    def forget_compiled(self) -> None:
        """From now on, solves are eager again."""
        self._compiled.clear()

    def forget_evaluations(self) -> None:
        """From now on, solves without gradients are eager again."""
        self._compiled.forget_evaluations()

    def record_at_once(self) -> None:
        """From now on, already the first solve of a kind is recorded, not only repeated ones.

        Recorded and eager solves are rounded differently. With this, a resumed run, whose recordings are lost,
        evaluates exactly as an uninterrupted run does.
        """
        self._recorded.fewest = 1

    def remark(self) -> str:
        """A sentence for the user, each once: a solve could not be recorded, or compiled steps are not used; or ""."""
        return self._recorded.remark() or self._compiled.remark()

    def __call__(
        self,
        field: VectorField,
        y0: State | Encoding,
        ts: Times,
        *,
        given: Sequence[Tensor] = (),
        integrals: Mapping[str, Integral] = NONE,
        noise: Noise | None = None,
        event: Event | None = None,
        breaks: Sequence[float] = (),
        jumps: Jumps | None = None,
    ) -> Solution:
        """The solution at `ts`; its first state is `y0`. It is also differentiable with respect to `ts`.

        `given` are tensors (batch, ...) that the field takes after time and state, such as a condition. Every gradient
        mode differentiates with respect to them as to the initial state; integer tensors are passed on unchanged. An
        `Encoding` in place of `y0` brings its own given tensors, breaks and knots.

        The solution holds each of the `integrals` by its name, (time, batch), 0 at ts[0]. `noise` drives a stochastic
        field; that of a Gaussian path can also be solved without. `breaks` are times, in any order, at which the field
        is discontinuous: every piece is solved separately. An `event` ends the solve of a sample or resets its state;
        the solution's `events` say when. `jumps` change all states at given times.

        Raises:
            RefusedInput: invalid times, state or given tensors.
            SolverFailed: the solver did not reach the last time.
            IncompatibleChoice: the solver does not take this field, or has no rule for integrals, noise or events.
        """
        check_kinds(given, integrals, breaks)
        of_given = breaks_of(y0, self.solver, ts) if isinstance(y0, Encoding) else ()
        y0, given, breaks = *state_and_given(y0, given), [*breaks, *of_given]
        check_solvable(y0, ts, breaks)
        if jumps is not None:
            solve = partial(self, field, given=given, integrals=integrals, noise=noise, breaks=breaks)
            return solve_between_jumps(solve, y0, ts, jumps, given, event=event)
        given = [*given, *(z for integral in integrals.values() for z in integral.given)]
        check_given(given, y0)
        check_takes(self.solver, field, y0, integrals, noise)
        if event is not None:
            check_takes_events(self.solver, self.gradient, batch=len(y0))
            check_event(event, times=ts.requires_grad, integrals=bool(integrals), breaks=bool(breaks))
        with in_full_precision(y0), told_of_transforms(self.gradient):
            y0, given = in_joint_precision(field, Encoding(y0, given), ts)
            counted = self._counted(field, given, integrals, noise)
            problem = Problem(field=counted, y0=y0, ts=own_times(ts), breaks=breaks, event=event)
            solution = self._solve(field, problem) if y0.numel() else solution_without_elements(problem)
        self._enter(solution)
        self._check_all(integrals, solution)
        return replace(solution, ts=ts)

    def _enter(self, solution: Solution) -> None:
        check_solution(solution, self.gradient)
        self.ledger.tally.enter(solution.accepted, solution.rejected, solution.smallest_step)
        if solution.each is not None:
            self.ledger.enter(solution.each)

    def evaluate(
        self, field: VectorField, t: Time, y: State, *, given: Sequence[Tensor] = (), call: str = "forward"
    ) -> Tensor:
        """field.call(t, y, *given) in the precision `field_dtype`, counted in the ledger; differentiable by autograd.

        `call` is one of the methods in the `call_weights` of the field's kind, such as `drift`. If `t` is (batch,) and
        the field takes only a single time, the field is mapped over the samples by torch.vmap.
        """
        self.ledger.tally.evaluations += kind_of(field).call_weights[call]
        function = field if call == "forward" else getattr(field, call)  # no wrapper: slower than a layer
        if t.dim() and call == "forward" and not field.batched_time:
            function = partial(call_mapped, field)
        with in_full_precision(y):
            found = Call(function, self.field_dtype, given)(t, y)
        return fitted(found, y, field, call)

    def _solve(self, field: VectorField, problem: Problem) -> Solution:
        check_independent(self.solver, problem)
        solver = solver_along(self.solver, field)
        if self.gradient.takes_breaks:
            return self.gradient.solve(solver, problem)
        moving = problem.ts.requires_grad and torch.is_grad_enabled()
        if moving and issubclass(solver.fields, StochasticField):
            raise IncompatibleChoice(
                f"the times of a solve by {solver.shown_name} ask for a gradient, and a path of "
                f"{name_of(field)} has no derivative in time. Use ts.detach()."
            )
        compiled = self._compiled.find(problem)

        def solve(solver: Solver, piece: Problem) -> Solution:
            return with_time_gradients(partial(compiled or self.gradient.solve, solver), piece)

        if compiled is not None:
            return solve_between_breaks(solve, solver, with_any_span(problem))
        eager, records = partial(self.gradient.solve, solver), self.records and not torch.is_grad_enabled()
        if records and (found := self._recorded.solve(solver, problem, eager)) is not None:
            return found
        with self._observed(field, problem):
            if problem.event is not None:
                return solve_to_events(self.gradient.solve, solver, problem)
            return solve_between_breaks(solve, solver, problem)

    def _check_all(self, integrals: Mapping[str, Integral], solution: Solution) -> None:
        """Raises IncompatibleChoice if a user's own gradient mode leaves integrals out."""
        if integrals.keys() - solution.integrals.keys():
            raise IncompatibleChoice(
                f"{self.gradient.shown_name} with {self.solver.shown_name} does not take integrals along a "
                f"solve: {', '.join(integrals)}. Use gradient=backprop."
            )

    def _counted(
        self,
        field: VectorField,
        given: Sequence[Tensor],
        integrals: Mapping[str, Integral],
        noise: Noise | None,
    ) -> CountedField:
        options = {"dtype": self.field_dtype, "given": given, "integrals": integrals, "noise": noise}
        return CountedField.around(field, self.ledger, attached=self.gradient.through_autograd, **options)

    @contextmanager
    def _observed(self, field: VectorField, problem: Problem) -> Iterator[None]:
        """Inside, observes the field's evaluations, and refuses those that the gradient mode cannot differentiate."""
        if self.gradient.through_autograd or not torch.is_grad_enabled():
            yield
            return
        check_differentiable(self.gradient, problem)
        counted, mode, look = problem.field, self.gradient.shown_name, may_wait(problem.y0.device)
        redraws = self.gradient.redraws and redrawable(self.solver) and problem.event is None
        with self._observations.during(field, counted, mode=mode, redraws=redraws, may_look=look):
            yield
