"""ODEs with exact solutions, and functions that build solvers and others from the real yaml files."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from ode_runner import problem
from ode_runner.batch import Answer
from ode_runner.building.input_choices import check_inputs
from ode_runner.building.instantiate import construct, target_of
from ode_runner.config.help import conf_dir
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.models.base import Numerics
from ode_runner.models.depth.odenet import ODENet
from ode_runner.problem import Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.one_step import RungeKutta
from ode_runner.types import State, Time, Times
from tests.composition import Compose
from tests.helpers import options

_made: dict[str, Any] = {}


def build(composed: Compose, group: str, name: str, *positional: Any, **options: Any) -> Any:
    """The object of `group=name`, with some of its options changed.

    Solvers and gradient modes are frozen, and so cached: making one takes longer than many a solve.
    """
    if group == "network":
        cfg, told = OmegaConf.create({group: own_options(composed, group, name)}), {"network": name, "task": "this"}
        check_inputs(told, *positional, model=ODENet, network=target_of(cfg, group))
    if group not in ("solver", "gradient"):
        return construct(OmegaConf.create({group: own_options(composed, group, name) | options}), group, *positional)
    key = f"{group}={name} {options}"
    if key not in _made:
        _made[key] = construct(OmegaConf.create({group: own_options(composed, group, name) | options}), group)
    return _made[key]


_options: dict[tuple[str, str], dict[str, Any]] = {}


def own_options(composed: Compose, group: str, name: str) -> dict[str, Any]:
    """The options of `group=name`, from its yaml and the choices that come with it."""
    if (group, name) not in _options:
        cfg = composed(f"{group}={name}")
        _options[group, name] = cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
    return deepcopy(_options[group, name])


def offering(kind: type[Solver], fields: type[VectorField] = VectorField) -> list[str]:
    """The names of all solvers of a kind; new ones are tested without further code.

    Only those whose steps are differentiable by autograd, and that accept fields of the type `fields`.
    """
    classes = {name: named_class("solver", name) for name in options("solver")}
    able = {name: made for name, made in classes.items() if made.differentiable and issubclass(fields, made.fields)}
    return [name for name, made in able.items() if issubclass(made, kind)]


@cache
def accepted_pairs() -> list[tuple[str, str]]:
    """Every solver of `offering` with every gradient mode that accepts it."""
    return [
        (solver, mode)
        for mode in options("gradient")
        for solver in offering(Solver)
        if named_class("gradient", mode).takes(named_class("solver", solver))
    ]


def family(kind: type[Solver]) -> list[Any]:
    """`offering` for parametrize; implicit solvers are slow, and have quick tests of their own in test_implicit.py."""
    implicit = set(offering(ImplicitSolver))
    return [pytest.param(name, marks=pytest.mark.slow if name in implicit else ()) for name in offering(kind)]


def looks_beyond(solver: Solver) -> bool:
    """Whether a stage of a step is beyond the end of the step."""
    return isinstance(solver, RungeKutta) and max(solver.tableau.c) > 1 + 1e-9


def is_first_of_its_family(pair: tuple[str, str]) -> bool:
    """Whether no solver earlier in the alphabet has the same base class and goes with the same mode."""
    bases = {name: named_class("solver", name).__base__ for name, mode in accepted_pairs() if mode == pair[1]}
    return next(name for name, base in bases.items() if base is bases[pair[0]]) == pair[0]


@cache
def named_class(group: str, name: str) -> Any:
    yaml = OmegaConf.load(conf_dir() / group / f"{name}.yaml")
    return target_of(OmegaConf.create({group: yaml.get(group, yaml)}), group)


def learners() -> list[str]:
    """Every model that has something to learn, and gives values for inputs of any kind."""
    classes = {name: named_class("model", name) for name in options("model")}
    able = {name: made for name, made in classes.items() if Answer.VALUES in made.answers()}
    particular = (Numerics.SOLVER, Numerics.EQUATION)
    own_tasks = {name for name, made in able.items() if made.of_series or made.to_events}
    special = {name for name in able if name in own_tasks or names_its_network(name)}
    return [name for name, made in able.items() if made.numerics not in particular and name not in special]


def names_its_network(model: str) -> bool:
    """Whether a model's yaml chooses the network, because the model needs parts that other networks lack."""
    yaml = OmegaConf.load(conf_dir() / "model" / f"{model}.yaml")
    return any("override /network" in default for default in yaml.get("defaults", []) if not isinstance(default, str))


def solve_by(mode: GradientMode, solver: Solver, field: CountedField, y0: State, ts: Times) -> Solution:
    """The solution of an initial value problem in a gradient mode."""
    return mode.solve(solver, problem.Problem(field=field, y0=y0, ts=ts))


class Formula(VectorField):
    """A field given as a function; records the times and types with which it was evaluated."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.times: list[float] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, t: Time, y: State) -> State:
        self.times.append(float(t.detach()))
        self.dtypes |= {t.dtype, y.dtype}
        return self.function(t, y)

    @property
    def calls(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Problem:
    """dy/dt = f(t, y) on `span`, with its exact solution."""

    function: Callable[[Tensor, Tensor], Tensor]
    exact: Callable[[float], Tensor]  # (batch, state) at a time
    span: tuple[float, float]

    def field(self) -> Formula:
        return Formula(self.function)

    def times(self, *between: float, backwards: bool = False) -> Times:
        """The ends of the span, and times `between` them, given as fractions of the span."""
        start, end = reversed(self.span) if backwards else self.span
        return torch.tensor([start, *(start + (end - start) * x for x in between), end])

    def solution(self, ts: Times) -> Tensor:
        return torch.stack([self.exact(t) for t in ts.tolist()])


def sine() -> Problem:
    """A field of both t and y. torchdiffeq, tests/problems.py, there on [1, 8]."""
    return Problem(
        lambda t, y: 2 * y / t + t**4 * torch.sin(2 * t) - t**2 + 4 * t**3,
        lambda t: torch.tensor(
            [
                [
                    t**3 * math.sin(2 * t) / 2
                    - t**4 * math.cos(2 * t) / 2
                    + t**2 * math.cos(2 * t) / 4
                    - t**3
                    + 2 * t**4
                    + (math.pi - 0.25) * t**2
                ]
            ]
        ),
        (1.0, 3.0),
    )


def oscillating_growth() -> Problem:
    """y' = y cos t. Problem A3 of Hull, Enright, Fellen, Sedgwick. SIAM J. Numer. Anal. 9, 1972; there to t = 20."""
    return Problem(lambda t, y: y * torch.cos(t), lambda t: torch.tensor([[math.exp(math.sin(t))]]), (0.0, 2.0))


def logistic() -> Problem:
    """y' = y/4 (1 - y/20), a batch of two initial values. Problem A4 of the same paper."""
    beginnings = (1.0, 3.0)
    return Problem(
        lambda t, y: y / 4 * (1 - y / 20),
        lambda t: torch.tensor([[20 / (1 + (20 / y0 - 1) * math.exp(-t / 4))] for y0 in beginnings]),
        (0.0, 4.0),
    )


def relaxation(rate: float = 1.0) -> Problem:
    """y' = -rate (y - cos t) - sin t, stiff for a large rate. Prothero, Robinson. Math. Comp. 28, 1974."""
    return Problem(
        lambda t, y: -rate * (y - torch.cos(t)) - torch.sin(t),
        lambda t: torch.tensor([[math.cos(t) + math.exp(-rate * t)]]),
        (0.0, 2.0),
    )


def linear() -> Problem:
    """y' = A y with A skew-symmetric, 5-dimensional; as in torchdiffeq, tests/problems.py."""
    draw = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, y0 = (draw - draw.T) / 2, torch.linspace(1, 2, 5, dtype=torch.float64)
    return Problem(
        lambda t, y: y @ a.T.to(y.dtype),
        lambda t: (torch.linalg.matrix_exp(t * a) @ y0)[None].to(torch.get_default_dtype()),
        (0.0, 2.0),
    )


def quadrature() -> Problem:
    """y' = exp(t), which does not depend on the state."""
    return Problem(lambda t, y: t.exp().expand_as(y), lambda t: torch.tensor([[math.exp(t)]]), (0.0, 1.5))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    problem.__name__: problem for problem in (sine, oscillating_growth, logistic, relaxation, linear, quadrature)
}


def robertson(t: Tensor, y: Tensor) -> Tensor:
    """Chemical kinetics with rates from 0.04 to 3e7. Robertson. In: Numerical Analysis, Academic Press 1966."""
    a, b, c = y.unbind(-1)
    slow, back, fast = 0.04 * a, 1e4 * b * c, 3e7 * b * b
    return torch.stack([back - slow, slow - back - fast, fast], dim=-1)


def van_der_pol(t: Tensor, y: Tensor) -> Tensor:
    """Van der Pol's oscillator, stiff: mu = 1000."""
    x, v = y.unbind(-1)
    return torch.stack([v, 1000 * (1 - x * x) * v - x], dim=-1)


class GivenSpiral(VectorField):
    """dy/dt = tanh(A y) z + w cos(t) y, where z and w are given, w undifferentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, t: Time, y: State, z: Tensor, w: Tensor) -> State:
        return torch.tanh(self.layer(y)) * z + w * torch.cos(t) * y


class SmallNet(VectorField):
    """A field with parameters, one of which, `unused`, is not used."""

    def __init__(self, state: int = 3, width: int = 5) -> None:
        super().__init__()
        self.inner = nn.Linear(state + 1, width)
        self.outer = nn.Linear(width, state)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, t: Time, y: State) -> State:
        return self.outer(torch.tanh(self.inner(torch.cat([y, t.expand(y.shape[0], 1)], dim=1))))


def slope(sizes: list[float], errors: list[float]) -> float:
    """Exponent p of errors = C * sizes ** p, by least squares of the logarithms."""
    x, y = torch.tensor(sizes, dtype=torch.float64).log(), torch.tensor(errors, dtype=torch.float64).log()
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / x.square().sum())


def predators(path: Path, *, end: float, rows: int, noise: float) -> None:
    """Write a series of predators and prey, from the Lotka-Volterra equations with known parameters, plus noise."""
    t = np.linspace(0, end, rows)

    def field(t: float, y: np.ndarray) -> list[float]:
        return [y[0] * (1.5 - y[1]), y[1] * (y[0] - 3.0)]

    found = solve_ivp(field, (0, end), [1.0, 1.0], t_eval=t, rtol=1e-10, atol=1e-10).y.T
    seen = found + noise * np.random.default_rng(0).standard_normal(found.shape)
    lines = [f"{time:.17g},{x:.17g},{y:.17g}" for time, (x, y) in zip(t, seen, strict=True)]
    path.write_text("\n".join(["t,x,y", *lines]))
