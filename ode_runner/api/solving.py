"""The engine alone: one solve of a field of one's own."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, lru_cache
from threading import RLock
from typing import Any, final

import torch
from torch import Tensor, nn

from ode_runner.api.composing import composed
from ode_runner.building.instantiate import construct, target_of
from ode_runner.compatibility import check_compatible
from ode_runner.compiling.each_kernel import each_on_gpu
from ode_runner.errors import CannotCompile, RefusedInput, as_typed
from ode_runner.event import Event, Jumps
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import name_of
from ode_runner.gradients.base import GradientMode
from ode_runner.integral import NONE, Integral
from ode_runner.integrator import Integrator
from ode_runner.noise.brownian_path import Noise
from ode_runner.problem import Solution, check_given, check_solvable
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Time, Times

_composing = RLock()  # what Hydra composes by belongs to the process: one thread at a time


def integrate(
    field: VectorField | nn.Module | Callable[..., State],
    y0: State,
    ts: Times,
    *,
    solver: str | Solver = "dopri5",
    gradient: str | GradientMode = "backprop",
    given: Sequence[Tensor] = (),
    integrals: Mapping[str, Integral] = NONE,
    noise: Noise | None = None,
    event: Event | None = None,
    breaks: Sequence[float] = (),
    jumps: Jumps | None = None,
    **options: Any,
) -> Solution:
    """Solve dy/dt = field(t, y, *given) from y0 at ts[0], differentiable as the gradient mode says.

    Args:
        field: a VectorField, or any module or function of (t, y, *given) that returns the derivative.
        y0: (batch, *state).
        ts: (time,), increasing or decreasing.
        solver: a name, as in `solver=dopri5`, or an object.
        gradient: a name, as in `gradient=adjoint`, or an object.
        given: tensors (batch, ...) that the field takes after time and state; differentiated as y0 is.
        integrals: what is to be integrated along the solve, by name.
        noise: that drives a stochastic field.
        event: that ends the solve of a sample or sets its state anew; more than one sample needs per_sample=True.
        breaks: times at which the field jumps.
        jumps: times at which the state does, and what it becomes.
        options: of a solver that is named: rtol=1e-6, atol=1e-8, num_steps=20, per_sample=True.

    Returns:
        the solution: `ys` (time, batch, *state), `integrals`, `events`, and the steps accepted and rejected.

    Raises:
        RefusedInput: a name or an option is none that there is, or the two do not go together.
        SolverFailed: the end of the times was not reached.
    """
    integrator = _integrator(solver, gradient, options)
    return integrator(
        _as_field(field, given),
        y0,
        ts,
        given=given,
        integrals=integrals,
        noise=noise,
        event=event,
        breaks=breaks,
        jumps=jumps,
    )


def compile(
    field: VectorField | nn.Module | Callable[..., State],
    y0: State,
    ts: Times,
    *,
    solver: str | Solver = "dopri5",
    gradient: str | GradientMode = "backprop",
    given: Sequence[Tensor] = (),
    integrals: Mapping[str, Integral] = NONE,
    noise: Noise | None = None,
    **options: Any,
) -> "Compiled":
    """`integrate` as compiled code, for many solves of one field: solve = compile(field, y0, ts), then solve(y0, ts).

    One solve, of what is handed over, is made to have the code compiled, in about a second on a CPU; machine code is
    kept for the next process. On a GPU steps are recorded as CUDA graphs, those of solves that nobody differentiates
    with the third of them; with per_sample=True all are kernels, with a sample in each thread. It serves all `y0` and
    `given` of these shapes and types, at any `ts`, where the same ones of `given` ask for a gradient; other solves are
    right as well, and uncompiled. The field must be a function of t, y, given and its parameters, which may change in
    place between solves, as an optimizer changes them.

    Args:
        field, y0, ts, solver, gradient, given, integrals, noise, options: as of `integrate`.

    Returns:
        solve(y0, ts, given=(), integrals={}, noise=None), which returns the solution.

    Raises:
        RefusedInput: as `integrate` does; or this field, solver or gradient mode cannot be compiled, with the reason.
        SolverFailed: the end of the times was not reached.
    """
    check_solvable(y0, ts, ())
    check_given(given, y0)
    integrator = replace(_integrator(solver, gradient, options), records=y0.is_cuda)
    solve = Compiled(integrator, _as_field(field, given), y0)
    try:
        solve.compile(y0, ts, given=given, integrals=integrals, noise=noise)
    except CannotCompile as reason:
        raise RefusedInput(
            f"{name_of(solve.field)} cannot be compiled: {reason}. Use ode_runner.integrate."
        ) from reason
    return solve


@final
class Compiled:
    """A field, solver and gradient mode whose solves are compiled code: solve(y0, ts)."""

    def __init__(self, integrator: Integrator, field: VectorField, like: State) -> None:
        self.integrator, self._original = integrator, field
        self.field = field if _learns(field) else _with_parameter(field, like)

    def __call__(
        self,
        y0: State,
        ts: Times,
        *,
        given: Sequence[Tensor] = (),
        integrals: Mapping[str, Integral] = NONE,
        noise: Noise | None = None,
    ) -> Solution:
        """The solution; arguments are those of `integrate`."""
        self.field.training = self._mode()
        wanted = self._differentiated(y0, ts, given, integrals)
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            return self.integrator(self.field, y0, ts, given=given, integrals=integrals, noise=noise)

    def compile(
        self,
        y0: State,
        ts: Times,
        *,
        given: Sequence[Tensor],
        integrals: Mapping[str, Integral],
        noise: Noise | None,
    ) -> None:
        """Compile the solve and its backward pass, by making both.

        Raises:
            CannotCompile: they cannot be.
        """
        self.field.training = self._mode()
        back = self._differentiated(y0, ts, given, integrals)
        by: dict[str, Any] = {"given": given, "integrals": integrals, "differentiated": back}
        self.integrator.compile(self.field, y0.detach(), always=True, **by)
        if each_on_gpu(self.integrator.solver, y0):
            return  # kernels, which are there
        with torch.enable_grad():
            ys = self.integrator(self.field, y0, ts.detach(), given=given, integrals=integrals, noise=noise).ys
            moving = [x for x in (y0, *given, *self.field.parameters()) if x.requires_grad]
            torch.autograd.grad(ys.sum(), moving, allow_unused=True)

    def _differentiated(self, y0: State, ts: Times, given: Sequence[Tensor], integrals: Mapping[str, Integral]) -> bool:
        """Whether such solves have derivatives, if those are recorded."""
        along = [z for integral in integrals.values() for z in (*integral.given, *integral.parameters())]
        return _learns(self._original) or any(x.requires_grad for x in (y0, ts, *given, *along))

    def _mode(self) -> bool:
        """Whether the caller's module is in training, in which it may be another function."""
        own = self._original.function if isinstance(self._original, _FunctionField) else self._original
        return own.training if isinstance(own, nn.Module) else True


def _integrator(solver: str | Solver, gradient: str | GradientMode, options: Mapping[str, Any]) -> Integrator:
    if "method" in options and isinstance(solver, str) and solver == "dopri5":
        raise RefusedInput(f"method={options['method']!r} is solver={options['method']!r} here.")
    integrator = Integrator(solver=_solver(solver, options), gradient=_gradient(gradient))
    names = {"model": "odenet", "solver": _name(solver), "gradient": _name(gradient)}
    check_compatible(names, _odenet(), integrator.solver, integrator.gradient)
    return integrator


class _FunctionField(VectorField):
    """A function or a module as a field; the parameters of a module are the field's."""

    def __init__(self, function: Callable[..., State]) -> None:
        super().__init__()
        self.function = function

    @property
    def shown_name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.function(t, y, *given)


def _as_field(field: VectorField | nn.Module | Callable[..., State], given: Sequence[Tensor]) -> VectorField:
    """The field; a function or a module as one.

    Raises:
        RefusedInput: it cannot be called with a time, a state and what is given.
    """
    if isinstance(field, VectorField):
        return field
    made = _FunctionField(field)
    if isinstance(field, type):
        raise RefusedInput(f"{made.shown_name} is a class, and a field is an object of it, or a function f(t, y).")
    try:
        signature = inspect.signature(field.forward if isinstance(field, nn.Module) else field)
    except ValueError:  # a function of Python's own, which does not tell what it takes
        return made
    try:
        signature.bind(0.0, None, *given)
    except TypeError:
        wanted = ", ".join(["t", "y", *(f"z{i + 1}" for i in range(len(given)))])
        raise RefusedInput(
            f"{made.shown_name} takes {signature}, and is called with ({wanted}): time, state and what is given. "
            f"Wrap it: lambda {wanted}: ..."
        ) from None
    return made


def _learns(field: VectorField) -> bool:
    return any(p.requires_grad for p in field.parameters())


def _with_parameter(field: VectorField, like: State) -> VectorField:
    """The same field with a parameter that it does not use: compiled code sums up derivatives by one at least."""
    made = copy(field)  # of its kind, with its longest step; parameters, buffers and modules are the caller's
    made._parameters = {**field._parameters, "unused": nn.Parameter(like.new_zeros(1))}
    return made


def _name(choice: object) -> str:
    return choice if isinstance(choice, str) else type(choice).__name__


def _solver(solver: str | Solver, options: Mapping[str, Any]) -> Solver:
    if not isinstance(solver, str):
        return solver
    words = [f"solver={solver}", *(f"{_key(name)}={as_typed(value)}" for name, value in options.items())]
    return _member("solver", tuple(words))


def _key(option: str) -> str:
    """How an option of a solver is typed; `tolerance` is one of all of them."""
    return option if option == "tolerance" else f"solver.{option}"


def _gradient(gradient: str | GradientMode) -> GradientMode:
    return _member("gradient", (f"gradient={gradient}",)) if isinstance(gradient, str) else gradient


@cache
def _odenet() -> Any:
    """The model whose demands are those of a single solve."""
    with _composing, composed((), config_dirs=()) as cfg:
        return target_of(cfg, "model")


@lru_cache(maxsize=256)  # composing takes a fifth of a second
def _member(group: str, words: tuple[str, ...]) -> Any:
    with _composing, composed(words, config_dirs=()) as cfg:
        return construct(cfg, group)
