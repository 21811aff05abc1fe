"""`make bench-peers`: a training step of a controlled equation, ours and torchcde's on torchdiffeq.

Spirals of `task=chirality`, batch 32, 100 points, Hermite control, a step of the 3/8 rule from row to row, backprop.
Both hold the same weights and change nothing. Their coefficients are made once; ours with every step, as in training.
Ours is timed twice: as it is, and with compiled steps (`trainer.compile=on`). Before they are timed, the gradients are
compared in double precision, and that of compiled steps in single precision.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import torch
import torchcde
from torch import Tensor, nn

from ode_runner.batch import Batch, Split
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.series.cde import CDE
from ode_runner.networks.sequence import SequenceNetwork
from ode_runner.solvers.explicit.rk38 import RK38
from ode_runner.tasks.series.chirality import Chirality
from tests.benchmarks.clock import add_pairs, timed
from tests.benchmarks.density import Side, distance
from tests.benchmarks.measure import BenchmarkFailed, Spread

BATCH, POINTS, WARMUP = 32, 100, 3
SAME, COMPILED = 1e-9, 1e-4  # distances of gradients allowed, relative to their length: in double, and in single


class Matrices(nn.Module):
    """Our field as torchcde takes it: the matrix at a state, and no control."""

    def __init__(self, matrices: nn.Module) -> None:
        super().__init__()
        self.matrices, self.evaluations = matrices, 0

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        self.evaluations += 1
        return self.matrices(z)


def main() -> int:
    """0: done; 1: the two sides do not compute the same thing."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.controls", description=__doc__)
    add_pairs(parser, default=10, of="steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, batch = made()
    try:
        check(model, batch)
        sides = sides_of(model.float(), batch)
    except BenchmarkFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    nfe = {name: side.evaluations() for name, side in sides.items()}
    seconds = [{name: timed(side.step) for name, side in sides.items()} for _ in range(WARMUP + options.pairs)][WARMUP:]
    for name, side_nfe in nfe.items():
        ratio = Spread.of([pair["torchcde"] / pair[name] for pair in seconds])
        median = 1000 * statistics.median(pair[name] for pair in seconds)
        times = f"{ratio.median:.2f} times as fast as torchcde [{ratio.least:.2f}, {ratio.most:.2f}]"
        print(f"{name:<10}{median:.1f} ms, {side_nfe:g} evaluations, {times}")
    return 0


def made() -> tuple[CDE, Batch]:
    task = Chirality(
        train=BATCH,
        validation=2,
        test=2,
        points=POINTS,
        observed=POINTS,
        missing=0.0,
        noise=0.01,
        seed=0,
        device=torch.device("cpu"),
    )
    network = SequenceNetwork(task.spec, hidden=8, width=128, depth=1)
    model = CDE(network, control="hermite", time=True, counts=None)
    return model, next(task.batches(Split.TRAIN, batch_size=BATCH, epoch=0))


def check(model: CDE, batch: Batch) -> None:
    """Raises BenchmarkFailed where the gradients of the two differ in double precision."""
    double = model.double(), batch.to(torch.float64)
    if (apart := distance(ours(*double).gradient(), theirs(*double).gradient())) > SAME:
        raise BenchmarkFailed(f"the two gradients are {apart:.1e} apart.")


def sides_of(model: CDE, batch: Batch) -> dict[str, Side]:
    """Raises BenchmarkFailed where compiled steps have another gradient."""
    sides = {
        "ours": ours(model, batch),
        "compiled": ours(model, batch, compiled=True),
        "torchcde": theirs(model, batch),
    }
    if (apart := distance(sides["compiled"].gradient(), sides["ours"].gradient())) > COMPILED:
        raise BenchmarkFailed(f"the gradient of compiled steps is {apart:.1e} away.")
    return sides


def ours(model: CDE, batch: Batch, *, compiled: bool = False) -> Side:
    integrate = Integrator(solver=RK38(num_steps=1, step_size=None), gradient=Backprop())
    if compiled:
        encoding = model.encode(batch.inputs)
        integrate.compile(model.field, encoding.y0.detach().requires_grad_(), given=encoding.given)

    def evaluations() -> float:
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            model(batch.inputs, batch.ts, integrate)
        return tally.evaluations

    return side_of(model, lambda: model(batch.inputs, batch.ts, integrate).values, batch, evaluations)


def theirs(model: CDE, batch: Batch) -> Side:
    values, times = batch.inputs[..., :-2], batch.inputs[..., -2:-1]
    rows = torch.cat([times, values], dim=-1)
    coefficients = torchcde.hermite_cubic_coefficients_with_backward_differences(rows)
    field = Matrices(model.field.matrices)

    def outputs() -> Tensor:
        control = torchcde.CubicSpline(coefficients)
        solve = {"t": control.interval, "adjoint": False, "method": "rk4", "options": {"step_size": 1.0}}
        states = torchcde.cdeint(X=control, func=field, z0=model.stem.initial(control.evaluate(0.0)), **solve)
        return model.head(states[:, -1])

    def evaluations() -> float:
        before = field.evaluations
        outputs()
        return field.evaluations - before

    return side_of(model, outputs, batch, evaluations)


def side_of(model: CDE, outputs: Callable[[], Tensor], batch: Batch, evaluations: Callable[[], float]) -> Side:
    def loss() -> Tensor:
        return nn.functional.cross_entropy(outputs(), batch.targets)

    return Side(loss=loss, parameters=list(model.parameters()), evaluations=evaluations)


if __name__ == "__main__":
    sys.exit(main())
