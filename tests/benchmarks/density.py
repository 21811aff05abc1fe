"""`make bench`: a training step of a continuous normalising flow, ours, compiled, one on torchdiffeq, and zuko's.

Eight Gaussians in the plane, layers 64-64-64 of concatsquash, batch 512, the exact trace, dopri5 at 1e-3. Theirs is as
torchdiffeq's cnf example has it: the state with its log density beside it, and a backward pass for each diagonal
element of the Jacobian. zuko's transform has its own Dormand-Prince and its adaptive checkpoint adjoint. All hold the
same weights, trained for 60 steps, and change nothing: every step solves the same equation. Before they are timed, the
first two gradients are compared in double precision along the same steps; and all, as they are timed, with a fine solve
in double precision.
"""

import argparse
import copy
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torchdiffeq
from torch import Tensor, nn
from zuko.transforms import FreeFormJacobianTransform

from ode_runner.batch import TaskSpec
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.density import TRACE, normal_log_density
from ode_runner.models.flows.cnf import ContinuousFlow
from ode_runner.networks.concatsquash import ConcatSquash, ConcatSquashField
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk38 import RK38
from ode_runner.tasks.densities.plane_distributions import GAUSSIANS, gaussians
from tests.benchmarks.clock import add_pairs, timed
from tests.benchmarks.measure import BenchmarkFailed, Spread

TRAINED, TOLERANCE, WARMUP = 60, 1e-3, 5
SAME_STEPS, AS_TIMED = 1e-9, 5e-2  # distances of gradients allowed, relative to their length


class PlainLayers(nn.Module):
    """The layers as FFJORD writes them, with the weights of a field of ours."""

    def __init__(self, field: ConcatSquashField) -> None:
        super().__init__()
        self.maps, sizes = copy.deepcopy(field.maps), field.outputs
        self.gates = nn.ModuleList(nn.Linear(1, size) for size in sizes)
        self.shifts = nn.ModuleList(nn.Linear(1, size, bias=False) for size in sizes)
        parts = zip(self.gates, self.shifts, *_split(field), strict=True)
        with torch.no_grad():
            for gate, shift, weight, bias, of_shift in parts:
                gate.weight.copy_(weight)
                gate.bias.copy_(bias)
                shift.weight.copy_(of_shift)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        t = t.view(1, 1)
        for i, (layer, gate, shift) in enumerate(zip(self.maps, self.gates, self.shifts, strict=True)):
            y = layer(torch.tanh(y) if i else y) * torch.sigmoid(gate(t)) + shift(t)
        return y


class PlainFlow(nn.Module):
    """The slope of a point and of its log density, as torchdiffeq's cnf example writes it."""

    def __init__(self, field: ConcatSquashField) -> None:
        super().__init__()
        self.layers, self.evaluations = PlainLayers(field), 0

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        y = state[0]
        with torch.enable_grad():
            y.requires_grad_()
            slope = self.layers(t, y)
            rows = [torch.autograd.grad(slope[:, i].sum(), y, create_graph=True)[0][:, i] for i in range(y.shape[1])]
        return slope, -torch.stack(rows).sum(dim=0)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A loss to be differentiated, what it is differentiated by, and a count of evaluations on the way forward."""

    loss: Callable[[], Tensor]
    parameters: list[nn.Parameter]
    evaluations: Callable[[], float]

    def step(self) -> None:
        for p in self.parameters:
            p.grad = None
        self.loss().backward()

    def gradient(self) -> Tensor:
        """In the order of our parameters, in double precision."""
        self.step()
        return torch.cat([p.grad.double().flatten() for p in self.parameters if p.grad is not None])


def main() -> int:
    """0: done; 1: the two sides do not compute the same thing."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.density", description=__doc__)
    add_pairs(parser, default=30, of="steps of each")
    parser.add_argument("--batch", type=int, default=512, help="points (default 512)")
    parser.add_argument("--width", type=int, default=64, help="of the three layers (default 64)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, points = trained(batch=options.batch, width=options.width)
    try:
        sides, errors = check(model, points)
    except BenchmarkFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    nfe = {name: side.evaluations() for name, side in sides.items()}
    seconds = [{name: timed(side.step) for name, side in sides.items()} for _ in range(WARMUP + options.pairs)][WARMUP:]
    for name, side_nfe in nfe.items():
        median, ratio = (
            statistics.median(pair[name] for pair in seconds),
            Spread.of([p[name] / p["ours"] for p in seconds]),
        )
        print(
            f"{name:<12}{1000 * median:.1f} ms, {side_nfe:g} evaluations, gradient off by {errors[name]:.0e}; "
            f"{ratio.median:.2f} times ours [{ratio.least:.2f}, {ratio.most:.2f}], "
            f"{ratio.median * nfe['ours'] / side_nfe:.2f} at equal evaluations"
        )
    return 0


def timed_sides(model: ContinuousFlow, points: Tensor) -> dict[str, Side]:
    return {
        "ours": ours(model, points, dopri5(TOLERANCE)),
        "compiled": ours(model, points, dopri5(TOLERANCE), compiled=True),
        "torchdiffeq": theirs(model, points, method="dopri5"),
        "zuko": zukos(model, points),
    }


def trained(*, batch: int, width: int) -> tuple[ContinuousFlow, Tensor]:
    """A flow that bends, and the points of the step that is timed."""
    plane = TaskSpec(input_shape=(2,), output_shape=(2,))
    model = ContinuousFlow(ConcatSquash(plane, width=width, depth=3), trace="exact", noise="rademacher")
    distribution = gaussians(*GAUSSIANS["8gaussians"])
    batches = distribution.draw(batch * TRAINED, torch.Generator().manual_seed(0))[0].float().split(batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for points in batches:
        ours(model, points, dopri5(TOLERANCE)).step()
        optimizer.step()
    return model, batches[0]


def check(model: ContinuousFlow, points: Tensor) -> tuple[dict[str, Side], dict[str, float]]:
    """What is timed, and the relative distances of its gradients from that of a fine solve in double precision.

    Raises:
        BenchmarkFailed: one is off, or they differ along the same steps.
    """
    double, exact = copy.deepcopy(model).double(), points.double()
    one = ours(double, exact, RK38(num_steps=4, step_size=None)).gradient()
    other = theirs(double, exact, method="rk4", options={"step_size": 1 / 4}).gradient()
    if (same := distance(one, other)) > SAME_STEPS:
        raise BenchmarkFailed(f"along the same steps the two gradients are {same:.1e} apart.")
    fine = ours(double, exact, dopri5(1e-8)).gradient()
    sides = timed_sides(model, points)
    errors = {name: distance(side.gradient(), fine) for name, side in sides.items()}
    if max(errors.values()) > AS_TIMED:
        raise BenchmarkFailed(f"gradients are off from those of a fine solve: {errors}.")
    return sides, errors


def ours(model: ContinuousFlow, points: Tensor, solver: Solver, *, compiled: bool = False) -> Side:
    integrate, ts = Integrator(solver=solver, gradient=Backprop()), points.new_tensor([0.0, 1.0])
    if compiled:
        integrate.compile(model.field, points, integrals={TRACE: model.exact_trace})

    def loss() -> Tensor:
        return -model(points, ts, integrate).values.mean()

    def evaluations() -> float:
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            loss()
        return tally.evaluations

    field = model.field
    assert isinstance(field, ConcatSquashField)
    return Side(loss=loss, parameters=list(field.parameters()), evaluations=evaluations)


def theirs(model: ContinuousFlow, points: Tensor, **how: object) -> Side:
    assert isinstance(model.field, ConcatSquashField)
    flow, ts = PlainFlow(model.field).to(points), points.new_tensor([0.0, 1.0])
    layers = flow.layers

    def loss() -> Tensor:
        begun = (points.clone(), points.new_zeros(len(points)))
        ys, qs = torchdiffeq.odeint(flow, begun, ts, rtol=TOLERANCE, atol=TOLERANCE, **how)
        return -(normal_log_density(ys[-1]) - qs[-1]).mean()

    def evaluations() -> float:
        flow.evaluations = 0
        loss()
        return flow.evaluations

    return Side(loss=loss, parameters=in_our_order(layers), evaluations=evaluations)


def zukos(model: ContinuousFlow, points: Tensor) -> Side:
    """The same layers in zuko's transform."""
    assert isinstance(model.field, ConcatSquashField)
    layers, calls = PlainLayers(model.field), [0]

    def field(t: Tensor, y: Tensor) -> Tensor:
        calls[0] += 1
        slope: Tensor = layers(t, y)
        return slope

    def loss() -> Tensor:
        transform = FreeFormJacobianTransform(
            field, t0=points.new_tensor(0.0), t1=points.new_tensor(1.0), phi=layers.parameters(),
            atol=TOLERANCE, rtol=TOLERANCE,
        )  # fmt: skip
        z, log_det = transform.call_and_ladj(points)
        return -(normal_log_density(z) + log_det).mean()

    def evaluations() -> float:
        calls[0] = 0
        loss()
        return calls[0]

    return Side(loss=loss, parameters=in_our_order(layers), evaluations=evaluations)


def in_our_order(layers: PlainLayers) -> list[nn.Parameter]:
    """Those of gates and shifts stand together in our field."""
    weights: list[Iterable[nn.Parameter]] = [
        layers.maps.parameters(),
        (gate.weight for gate in layers.gates),
        (gate.bias for gate in layers.gates),
        (shift.weight for shift in layers.shifts),
    ]
    return [p for part in weights for p in part]


def dopri5(tolerance: float) -> Dopri5:
    return Dopri5(rtol=tolerance, atol=tolerance, max_steps=10_000)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _split(field: ConcatSquashField) -> list[tuple[Tensor, ...]]:
    """Weights and biases of the gates and weights of the shifts, of each layer."""
    parts = (field.gates.weight, field.gates.bias, field.shifts.weight)
    return [part.split(field.outputs) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
