"""The engine alone: one solve of a field of one's own."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from torch import Tensor, nn

from ode_runner.api.composing import composed
from ode_runner.building.instantiate import construct, target_of
from ode_runner.compatibility import check_compatible
from ode_runner.event import Event, Jumps
from ode_runner.field import VectorField
from ode_runner.gradients.base import GradientMode
from ode_runner.integral import NONE, Integral
from ode_runner.integrator import Integrator
from ode_runner.noise import Noise
from ode_runner.problem import Solution
from ode_runner.quoting import as_typed
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Time, Times


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
    integrator = Integrator(solver=_solver(solver, options), gradient=_gradient(gradient))
    names = {"model": "odenet", "solver": _name(solver), "gradient": _name(gradient)}
    check_compatible(names, _odenet(), integrator.solver, integrator.gradient)
    around = field if isinstance(field, VectorField) else _FunctionField(field)
    return integrator(
        around, y0, ts, given=given, integrals=integrals, noise=noise, event=event, breaks=breaks, jumps=jumps
    )


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


def _name(choice: object) -> str:
    return choice if isinstance(choice, str) else type(choice).__name__


def _solver(solver: str | Solver, options: Mapping[str, Any]) -> Solver:
    if not isinstance(solver, str):
        return solver
    words = [f"solver={solver}", *(f"solver.{name}={as_typed(value)}" for name, value in options.items())]
    return _member("solver", tuple(words))


def _gradient(gradient: str | GradientMode) -> GradientMode:
    return _member("gradient", (f"gradient={gradient}",)) if isinstance(gradient, str) else gradient


@cache
def _odenet() -> Any:
    """The model whose demands are those of a single solve."""
    with composed((), config_dirs=()) as cfg:
        return target_of(cfg, "model")


@lru_cache(maxsize=256)  # composing takes a fifth of a second
def _member(group: str, words: tuple[str, ...]) -> Any:
    with composed(words, config_dirs=()) as cfg:
        return construct(cfg, group)
