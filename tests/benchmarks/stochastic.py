"""`make bench`: a solve of a stochastic equation with its gradient, ours and torchsde's.

64 samples of 4 numbers, 1,000 steps, the mean square of the last states, and the derivative by what the equation
learns. Two equations of diagonal noise: geometric Brownian motion, whose drift and diffusion are one product each, and
that of `model=sde`, a network with a hidden layer of 64 and a diffusion for each element. Each solver stands beside
torchsde's of the same name (its derivative-free Milstein too), in Ito's or in Stratonovich's calculus, in which both
take the drift as it is. Ours is timed as it is and, where its steps can be, compiled.

torchsde draws its noise by its default, by `BrownianPath`, and by a `BrownianInterval` that is told the step and keeps
all that it has drawn, which is its fastest. The last column lends it our increments, made beforehand: what is left are
the steps. In that way the states and gradients are compared in double precision before anything is timed.
"""

import argparse
import copy
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchsde
from torch import Tensor, nn

from ode_runner.field import StochasticField
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.equations.sde import LearnedEquation
from ode_runner.networks.dense import MLPField
from ode_runner.networks.diffusion import ElementwiseDiffusion
from ode_runner.noise.brownian_path import BrownianPath, Calculus, Increment, Noise
from ode_runner.solvers.base import Solver
from ode_runner.solvers.sde.euler_maruyama import EulerMaruyama
from ode_runner.solvers.sde.heun_sde import HeunSDE
from ode_runner.solvers.sde.midpoint_sde import MidpointSDE
from ode_runner.solvers.sde.milstein import Milstein
from ode_runner.solvers.sde.reversible_heun_sde import ReversibleHeunSDE
from ode_runner.solvers.sde.srk import StochasticRungeKutta
from ode_runner.solvers.stochastic import StochasticSolver
from ode_runner.types import State, Time
from tests.benchmarks.clock import add_pairs, timed
from tests.benchmarks.density import Side, distance
from tests.benchmarks.measure import BenchmarkFailed, Spread

BATCH, SIZE, STEPS, WARMUP = 64, 4, 1000, 1
PER_UNIT = 1024  # steps in a unit of time, so that torchsde, which adds them up, ends with the last
SAME, COMPILED = 1e-9, 1e-4  # distances of gradients allowed, relative to their length: in double, and in single
SAME_LAW = PER_UNIT**-1.5  # of srk's: torchsde has another of Roessler's methods, also of strong order 1.5
NOISE = Noise(path=BrownianPath(seed=1, cells=PER_UNIT, depth=0), samples=torch.arange(BATCH))
SOLVERS: dict[str, tuple[type[Solver], str]] = {  # ours, and the name of torchsde's
    "milstein": (Milstein, "milstein"),
    "euler_maruyama": (EulerMaruyama, "euler"),
    "srk": (StochasticRungeKutta, "srk"),
    "heun_sde": (HeunSDE, "heun"),
    "midpoint_sde": (MidpointSDE, "midpoint"),
    "reversible_heun_sde": (ReversibleHeunSDE, "reversible_heun"),
}


class Geometric(StochasticField):
    """dx = mu x dt + sigma x dW, of each element."""

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.sigma = nn.Parameter(torch.full((SIZE,), 0.1)), nn.Parameter(torch.full((SIZE,), 0.3))

    def drift(self, t: Time, y: State) -> State:
        return self.mu * y

    def diffusion(self, t: Time, y: State) -> Tensor:
        return self.sigma * y


class Theirs(nn.Module):
    """Our field as torchsde takes it."""

    noise_type = "diagonal"

    def __init__(self, field: StochasticField, calculus: Calculus) -> None:
        super().__init__()
        self.field, self.sde_type = field, calculus.value.lower()
        self.evaluations = 0.0

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        self.evaluations += 0.5
        return self.field.drift(t, y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        self.evaluations += 0.5
        return self.field.diffusion(t, y)


@dataclass(frozen=True, kw_only=True)
class Lent:
    """Our increments in the place of torchsde's Brownian motion; asked for one after another, as its solvers do."""

    made: Increment  # (step, batch, size) each
    levy_area_approximation: str = "space-time"

    @property
    def shape(self) -> torch.Size:
        return self.made.w.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        return self.made.w.dtype

    @property
    def device(self) -> torch.device:
        return self.made.w.device

    def __call__(self, ta: Any, tb: Any, *, return_U: bool = False, return_A: bool = False) -> Any:
        w, h = (x[round(float(ta) * PER_UNIT)] for x in self.made)
        return (w, (w / 2 + h) / PER_UNIT) if return_U else w


def main() -> int:
    """0: done; 1: the two sides do not compute the same thing."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stochastic", description=__doc__)
    add_pairs(parser, default=5, of="solves of each")
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS), choices=list(SOLVERS))
    parser.add_argument("--equations", nargs="+", default=["geometric", "learned"], choices=["geometric", "learned"])
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        for equation in options.equations:
            for name in options.solvers:
                row(equation, name, pairs=options.pairs, compiles=not options.no_compile)
    except BenchmarkFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    return 0


def row(equation: str, name: str, *, pairs: int, compiles: bool) -> None:
    """Prints what the solver takes along the equation, and what torchsde's take of that."""
    cls, method = SOLVERS[name]
    field, y0 = made(equation, cls)
    check(field, y0, name)
    sides = {"ours": ours(field, y0, cls)}
    if compiles and issubclass(cls, StochasticSolver):
        sides["compiled"] = ours(field, y0, cls, compiled=True)
        if (apart := distance(sides["compiled"].gradient(), sides["ours"].gradient())) > COMPILED:
            raise BenchmarkFailed(f"{name}, {equation}: the gradient of compiled steps is {apart:.1e} away.")
    peers = {kind: theirs(field, y0, cls, method, kind) for kind in ("default", "path", "fastest", "lent")}
    if name == "srk":
        del peers["path"]  # which has no areas
    if name == "milstein":
        peers["derivative-free"] = theirs(field, y0, cls, method, "default", grad_free=True)
    everyone = {**sides, **peers}
    seconds = [{key: timed(side.step) for key, side in everyone.items()} for _ in range(WARMUP + pairs)][WARMUP:]
    for key, side in sides.items():
        median = 1000 * statistics.median(pair[key] for pair in seconds)
        print(f"{equation}, {name}, {key}: {median:.0f} ms, {side.evaluations():g} evaluations")
        for peer, other in peers.items():
            ratio = Spread.of([pair[peer] / pair[key] for pair in seconds])
            print(
                f"    torchsde, {peer}: {ratio.median:.2f} times that [{ratio.least:.2f}, {ratio.most:.2f}], "
                f"{other.evaluations():g} evaluations",
                flush=True,
            )


def made(equation: str, cls: Any) -> tuple[StochasticField, State]:
    torch.manual_seed(0)
    field: StochasticField = Geometric()
    if equation == "learned":
        field = LearnedEquation(MLPField([SIZE, 64, SIZE], time=True), ElementwiseDiffusion(SIZE, width=16))
    field.calculus = cls.calculus
    return field, 0.5 + torch.rand(BATCH, SIZE)


def check(field: StochasticField, y0: State, name: str) -> None:
    """Raises BenchmarkFailed where the gradients of the two differ in double precision, along the same path."""
    cls, method = SOLVERS[name]
    double, exact = copy.deepcopy(field).double(), y0.double()
    one, other = (side.gradient() for side in (ours(double, exact, cls), theirs(double, exact, cls, method, "lent")))
    if (apart := distance(other, one)) > (SAME_LAW if name == "srk" else SAME):
        raise BenchmarkFailed(f"{name}, {type(field).__name__}: the two gradients are {apart:.1e} apart.")


def ours(field: StochasticField, y0: State, cls: Any, *, compiled: bool = False) -> Side:
    more = {"last_noise": None} if cls is EulerMaruyama else {}
    integrate = Integrator(solver=cls(num_steps=PER_UNIT, step_size=None, **more), gradient=Backprop())
    ts = y0.new_tensor([0.0, STEPS / PER_UNIT])
    if compiled:
        integrate.compile(field, y0)

    def loss() -> Tensor:
        return integrate(field, y0, ts, noise=NOISE).ys[-1].square().mean()

    def evaluations() -> float:
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            loss()
        return tally.evaluations

    return Side(loss=loss, parameters=list(field.parameters()), evaluations=evaluations)


def theirs(field: StochasticField, y0: State, cls: Any, method: str, kind: str, **options: bool) -> Side:
    sde, ts = Theirs(field, cls.calculus), y0.new_tensor([0.0, STEPS / PER_UNIT])
    brownian = brownian_of(kind, y0, area="space-time" if method == "srk" else "none")

    def loss() -> Tensor:
        ys = torchsde.sdeint(sde, y0, ts, bm=brownian(), method=method, dt=1 / PER_UNIT, options=options)
        end: Tensor = ys[-1]
        return end.square().mean()

    def evaluations() -> float:
        sde.evaluations = 0.0
        loss()
        return sde.evaluations

    return Side(loss=loss, parameters=list(field.parameters()), evaluations=evaluations)


def brownian_of(kind: str, y0: State, *, area: str) -> Callable[[], Any]:
    """What makes the Brownian motion of a solve."""
    interval = {
        "t0": 0.0,
        "t1": STEPS / PER_UNIT,
        "size": tuple(y0.shape),
        "dtype": y0.dtype,
        "levy_area_approximation": area,
    }
    if kind == "lent":
        steps = [(i / PER_UNIT, (i + 1) / PER_UNIT) for i in range(STEPS)]
        lent = Lent(made=NOISE.increments(steps, y0.shape[1:], dtype=y0.dtype))
        return lambda: lent
    makers: dict[str, Callable[[], Any]] = {
        "default": lambda: None,
        "path": lambda: torchsde.BrownianPath(t0=0.0, w0=torch.zeros_like(y0)),
        "fastest": lambda: torchsde.BrownianInterval(**interval, dt=1 / PER_UNIT, cache_size=None),
    }
    return makers[kind]


if __name__ == "__main__":
    sys.exit(main())
