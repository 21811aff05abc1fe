"""The solvers alone: one solve of the user's field."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, NoReturn, final

import torch
from torch import Tensor, nn

from ode_runner.api.composing import composed
from ode_runner.api.function_field import FunctionField, as_field
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
from ode_runner.problem import Solution, SolveOptions, check_given, check_kinds, check_solvable
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Times


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
    """Solves dy/dt = field(t, y, *given) from y0 at ts[0]; the gradient mode makes the solution differentiable.

    Args:
        field: a VectorField, or any module or function of (t, y, *given) that returns the derivative.
        y0: (batch, *state).
        ts: (time,), increasing or decreasing.
        solver: a name, as in `solver=dopri5`, or an object.
        gradient: a name, as in `gradient=adjoint`, or an object.
        given: tensors (batch, ...) passed to the field after time and state; differentiated like y0.
        integrals: integrands along the solve, by name.
        noise: drives a stochastic field.
        event: ends the solve of a sample or resets its state; more than one sample needs per_sample=True.
        breaks: times at which the field is discontinuous.
        jumps: times at which the state jumps, and its new value.
        options: of a solver given by name: rtol=1e-6, atol=1e-8, num_steps=20, per_sample=True.

    Returns:
        The solution: `ys` (time, batch, *state), `integrals`, `events`, and the numbers of accepted and rejected steps.

    Raises:
        RefusedInput: there is no such name or option, or solver and gradient mode do not go together.
        SolverFailed: the last time was not reached.
    """
    integrator = _integrator(solver, gradient, options)
    return integrator(
        as_field(field, given),
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
    breaks: Sequence[float] = (),
    **options: Any,
) -> "Compiled":
    """Compiles `integrate` for many solves of one field: solve = compile(field, y0, ts), then solve(y0, ts).

    The arguments are solved once to compile the code, which takes about a second on a CPU (half a minute if PyTorch's
    compiler is needed); machine code is cached for later processes. On a GPU, steps are recorded as CUDA graphs; those
    of solves without gradients at the third solve. With per_sample=True all are kernels, with one thread per sample.
    The code serves all `y0` and `given` of these shapes and types, at any `ts`, if the same ones of `given` require
    gradients; other solves are correct too, but not compiled. The field must be a function of t, y, given and its
    parameters, which may be changed in place between solves, as by an optimizer. If a Python number that it reads has
    changed, solves are not compiled, with a warning.

    Args:
        field, y0, ts, solver, gradient, given, integrals, noise, breaks, options: as for `integrate`. If there are
            breaks, solves with any breaks are compiled, and others are not.

    Returns:
        solve(y0, ts, given=(), integrals={}, noise=None, breaks=()), which returns the solution.

    Raises:
        RefusedInput: as for `integrate`; or this field, solver or gradient mode cannot be compiled, with the reason.
        SolverFailed: the last time was not reached.
    """
    check_solvable(y0, ts, breaks)
    check_kinds(given, integrals, breaks)
    check_given(given, y0)
    integrator = replace(_integrator(solver, gradient, options), records=y0.is_cuda)
    solve = Compiled(integrator, as_field(field, given), y0)
    try:
        solve.compile(y0, ts, given=given, integrals=integrals, noise=noise, breaks=breaks)
    except CannotCompile as reason:
        raise RefusedInput(
            f"{name_of(solve.field)} cannot be compiled: {reason}. Use ode_runner.integrate."
        ) from reason
    return solve


@final
class Compiled:
    """A field, solver and gradient mode with compiled solves: solve(y0, ts)."""

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
        breaks: Sequence[float] = (),
    ) -> Solution:
        """The solution; arguments as for `integrate`."""
        self.field.training = self._mode()
        wanted = self._differentiated(y0, ts, given, integrals)
        options: SolveOptions = {"given": given, "integrals": integrals, "noise": noise, "breaks": breaks}
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            solution = self.integrator(self.field, y0, ts, **options)
        if remark := self.integrator.remark():
            warnings.warn(remark, stacklevel=2)
        return solution

    def __reduce__(self) -> NoReturn:
        """Refuses copies and pickles, as of a module that holds the solves in an attribute."""
        raise RefusedInput(
            f"compiled solves are of one object, {name_of(self.field)}, and are neither copied nor pickled. Keep them "
            "out of what is copied, and compile the field of the copy: ode_runner.compile(field, y0, ts)."
        )

    def compile(
        self,
        y0: State,
        ts: Times,
        *,
        given: Sequence[Tensor],
        integrals: Mapping[str, Integral],
        noise: Noise | None,
        breaks: Sequence[float],
    ) -> None:
        """Compiles the solve and its backward pass by running both.

        Raises:
            CannotCompile: they cannot be compiled.
        """
        self.field.training = self._mode()
        back = self._differentiated(y0, ts, given, integrals)
        by: dict[str, Any] = {"given": given, "integrals": integrals, "breaks": bool(breaks), "differentiated": back}
        self.integrator.compile(self.field, y0.detach(), always=True, **by)
        if each_on_gpu(self.integrator.solver, y0):
            return  # its kernels are already compiled
        with torch.enable_grad():
            options: SolveOptions = {"given": given, "integrals": integrals, "noise": noise, "breaks": breaks}
            ys = self.integrator(self.field, y0, ts.detach(), **options).ys
            moving = [x for x in (y0, *given, *self.field.parameters()) if x.requires_grad]
            torch.autograd.grad(ys.sum(), moving, allow_unused=True)

    def _differentiated(self, y0: State, ts: Times, given: Sequence[Tensor], integrals: Mapping[str, Integral]) -> bool:
        """Whether such solves have derivatives if autograd is enabled."""
        along = [z for integral in integrals.values() for z in (*integral.given, *integral.parameters())]
        return _learns(self._original) or any(x.requires_grad for x in (y0, ts, *given, *along))

    def _mode(self) -> bool:
        """Whether the user's module is in training mode, in which it may be another function."""
        own = self._original.function if isinstance(self._original, FunctionField) else self._original
        return own.training if isinstance(own, nn.Module) else True


def _integrator(solver: str | Solver, gradient: str | GradientMode, options: Mapping[str, Any]) -> Integrator:
    if "method" in options and isinstance(solver, str) and solver == "dopri5":
        raise RefusedInput(f"method={options['method']!r} is solver={options['method']!r} here.")
    integrator = Integrator(solver=_solver(solver, options), gradient=_gradient(gradient))
    names = {"model": "odenet", "solver": _name(solver), "gradient": _name(gradient)}
    check_compatible(names, _odenet(), integrator.solver, integrator.gradient)
    return integrator


def _learns(field: VectorField) -> bool:
    return any(p.requires_grad for p in field.parameters())


def _with_parameter(field: VectorField, like: State) -> VectorField:
    """The same field with an unused parameter: compiled code needs at least one for the sum of derivatives."""
    made = copy(field)  # keeps its type and longest step; shares parameters, buffers and modules with the caller's
    made._parameters = {**field._parameters, "unused": nn.Parameter(like.new_zeros(1))}
    return made


def _name(choice: object) -> str:
    return choice if isinstance(choice, str) else type(choice).__name__


def _solver(solver: str | Solver, options: Mapping[str, Any]) -> Solver:
    if not isinstance(solver, str):
        _check_object(solver, Solver, "solver", "'dopri5'")
        if options:
            names = ", ".join(options)
            raise RefusedInput(f"{names}: of a solver that is an object, options are given to {_name(solver)}(...).")
        return solver
    plain = {name: value.item() if getattr(value, "ndim", 1) == 0 else value for name, value in options.items()}
    words = [f"solver={solver}", *(f"{_key(name)}={as_typed(value)}" for name, value in plain.items())]
    return _member("solver", tuple(words))


def _key(option: str) -> str:
    """A solver option as typed; `tolerance` belongs to all solvers."""
    return option if option == "tolerance" else f"solver.{option}"


def _gradient(gradient: str | GradientMode) -> GradientMode:
    if isinstance(gradient, str):
        return _member("gradient", (f"gradient={gradient}",))
    _check_object(gradient, GradientMode, "gradient", "'backprop'")
    return gradient


def _check_object(choice: object, kind: type, group: str, example: str) -> None:
    if not isinstance(choice, kind):
        what = f"the class {choice.__name__}" if isinstance(choice, type) else f"a {type(choice).__name__}"
        raise RefusedInput(f"{group} is a name, such as {example}, or an object of a {kind.__name__}, not {what}.")


@cache
def _odenet() -> Any:
    """The model with the requirements of a single solve."""
    with composed((), config_dirs=()) as cfg:
        return target_of(cfg, "model")


@lru_cache(maxsize=256)  # composing takes 0.2 seconds
def _member(group: str, words: tuple[str, ...]) -> Any:
    with composed(words, config_dirs=()) as cfg:
        return construct(cfg, group)
