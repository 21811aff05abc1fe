"""Forward-mode differentiation: sensitivities are computed along with the state."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.fields.counted_field import CountedField, name_of
from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.one_step import AcceptedStep, ExplicitRungeKutta, Gathered
from ode_runner.types import State, Times, Trajectory

StepJVP = tuple[Tensor, list[Tensor], list[Tensor]]  # tangents of a step's end, its outputs, and integral increments


@final
@dataclass(frozen=True, kw_only=True)
class Forward(GradientMode):
    """Pushes tangents through every accepted step: one per parameter, and one per element of y0 if it has a gradient.

    Exact for the computed solution. The backward pass takes no evaluation. Only the derivatives of outputs are stored,
    in at most `max_directions` directions. The forward solve computes every accepted step twice, the second time for
    all directions in one batched call, whose cost grows with their number. It is meant for systems with few parameters.
    The field must support torch.func.

    Griewank, Walther. Evaluating Derivatives. SIAM 2008, 3.1.
    """

    max_directions: int

    requires: ClassVar[type] = ExplicitRungeKutta
    requirement: ClassVar[str] = "an explicit Runge-Kutta solver, whose steps can be taken one at a time"
    exact: ClassVar[bool] = True
    many_outputs: ClassVar[bool] = True
    sized_by_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_directions < 1:
            raise RefusedInput(f"gradient.max_directions must be at least 1, not {self.max_directions}.")

    def check_size(self, problem: Problem) -> None:
        beginning = problem.y0.numel() if problem.y0.requires_grad else 0
        self._check_few(beginning, sum(p.numel() for p in problem.field.parameters() if p.requires_grad))

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if not isinstance(solver, ExplicitRungeKutta):
            raise IncompatibleChoice(f"gradient=forward needs {self.requirement}.")
        field, y0, ts = problem.field, problem.y0, problem.ts
        named = {name: p for name, p in field.named_parameters() if p.requires_grad}
        beginning = y0.numel() if y0.requires_grad else 0
        if not torch.is_grad_enabled() or not (named or beginning):
            return solver.solve(field, y0, ts)
        self._check_few(beginning, sum(p.numel() for p in named.values()))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")  # by torch itself, at the first jvp
            try:
                solution, *derivatives = _Tangents(solver, field, named, y0).solve(y0, ts)
            except RuntimeError as error:
                if not re.search("functorch|vmap|vjp, jvp|forward AD|[Ss]parse", str(error)):
                    raise
                raise IncompatibleChoice(
                    f"gradient=forward maps over the field by torch.func, which {name_of(field)} does not allow "
                    f"({str(error).splitlines()[0].partition('. ')[0]}). Use gradient=checkpoint."
                ) from error
        qs = field.stacked(solution.integrals, solution.ys)
        ys, qs = _Contracted.apply(solution.ys, qs, *derivatives, *([y0] if beginning else []), *field.inputs())
        return replace(solution, ys=ys, integrals=field.named(qs))

    def _check_few(self, beginning: int, parameters: int) -> None:
        if beginning + parameters > self.max_directions:
            raise IncompatibleChoice(
                f"gradient=forward needs a direction for each of the field's {parameters:,} parameters and "
                f"{beginning:,} elements of the initial state, but gradient.max_directions={self.max_directions}. "
                "Use gradient=checkpoint, or raise the limit."
            )


class _Tangents:
    """The derivative of the state in every direction, pushed from step to step."""

    def __init__(self, solver: ExplicitRungeKutta, field: CountedField, named: Mapping[str, Tensor], y0: State) -> None:
        self.solver, self.field = solver, field.unobserved()
        self.observed = field
        self.named = {name: p.detach().contiguous() for name, p in named.items()}  # jvp does not take expanded tensors
        parts = [y0] if y0.requires_grad else []
        units = _units([*parts, *self.named.values()])
        self.of_state = units.pop(0) if parts else y0.new_zeros(len(units[0]), *y0.shape)
        self.of_parameters = dict(zip(self.named, units, strict=True))
        self.directions = len(self.of_state)
        self.retaking = _Recomputation(solver, self.field)

    def solve(self, y0: State, ts: Times) -> tuple[Solution, Tensor, Tensor]:
        """The solution, and the derivatives of states, (direction, time, batch, *state), and of integrals."""
        gathered, of_states, tangent = Gathered(self.solver, self.observed, y0), [self.of_state], self.of_state
        of_integral = gathered.q.expand(self.directions, *gathered.q.shape)
        of_integrals = [of_integral]
        for step in self.solver.steps(self.observed, y0, ts):
            gathered.add(step)
            tangent, due, gains = self._jvp(step, step.y0.contiguous(), tangent)
            of_states += due
            if gains:
                whole, *parts = gains
                of_integrals += [of_integral + part for part in parts]
                of_integral = of_integral + whole
        return gathered.solution(), torch.stack(of_states, dim=1), torch.stack(of_integrals, dim=1)

    def _jvp(self, interval: AcceptedStep, y0: State, tangent: Tensor) -> StepJVP:
        def recompute(y: State, named: dict[str, Tensor]) -> StepJVP:
            return functional_call(self.retaking, {f"field.{name}": p for name, p in named.items()}, (interval, y))

        def along(dy: Tensor, dnamed: dict[str, Tensor]) -> StepJVP:
            return jvp(recompute, (y0, self.named), (dy, dnamed))[1]

        return vmap(along)(tangent, self.of_parameters)


def _units(parts: Sequence[Tensor]) -> list[Tensor]:
    """The unit vectors of all parts together, split into the parts: (direction, *shape) each."""
    sizes = [part.numel() for part in parts]
    eye = torch.eye(sum(sizes), dtype=parts[0].dtype, device=parts[0].device)
    return [
        share.reshape(len(eye), *part.shape).to(part.dtype)
        for share, part in zip(eye.split(sizes, 1), parts, strict=True)
    ]


@final
class _Recomputation(nn.Module):
    """A step as a function of its initial state and the field's parameters, which functional_call replaces."""

    def __init__(self, solver: ExplicitRungeKutta, field: CountedField) -> None:
        super().__init__()
        self.solver, self.field = solver, field

    def forward(self, interval: AcceptedStep, y0: State) -> StepJVP:
        step = self.solver.recompute(self.field, interval, y0)
        return step.y1, self.solver.outputs(step), self.solver.gains(self.field, step)


class _Contracted(torch.autograd.Function):
    """States and integrals of a solution; the backward pass contracts cotangents with their stored derivatives."""

    @staticmethod
    def forward(
        ctx: Any, ys: Trajectory, qs: Tensor, of_ys: Tensor, of_qs: Tensor, *wanted: Tensor
    ) -> tuple[Trajectory, Tensor]:
        ctx.inputs = wanted
        ctx.save_for_backward(of_ys, of_qs, *wanted)
        return ys.view_as(ys), qs.view_as(qs)

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor, dqs: Tensor) -> tuple[Tensor | None, ...]:
        of_ys, of_qs, *wanted = ctx.saved_tensors
        flat = of_ys.flatten(1) @ dys.flatten() + of_qs.flatten(1) @ dqs.flatten()
        parts = flat.split([part.numel() for part in wanted])
        return None, None, None, None, *(part.view_as(one) for part, one in zip(parts, wanted, strict=True))
