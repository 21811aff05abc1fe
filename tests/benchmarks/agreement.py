"""Before anything is timed: both sides compute the same function and the same gradient, at the same price."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import Batch
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.rk38 import RK38
from ode_runner.training.trainer import Trainer
from tests.benchmarks.measure import BenchmarkFailed
from tests.benchmarks.ours import endless, under_plain_names
from tests.benchmarks.plain import PlainODENet, PlainResNet

Plain = TypeVar("Plain", bound=nn.Module)
EVALUATIONS_PER_STEP = 6  # of dopri5
AS_TIMED, SAME_STEPS, ENDING_ON_TIME = 1e-1, 1e-9, 1e-2  # distances allowed


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Evaluations of both, and the distance of the two gradients relative to the plain one's length.

    `as_timed` is fp32 with the solvers that are timed. Those differ by some multiple of their tolerance: torchdiffeq
    steps over the end and interpolates, and it differentiates its first step size. `same_steps` is float64 with
    the 3/8 rule on four steps, which torchdiffeq calls rk4: the same discrete solution, so only rounding remains.
    `ending_on_time` is float64 with dopri5 as timed, but torchdiffeq told to end a step on the last time.
    """

    our_evaluations: int
    plain_evaluations: int
    as_timed: float
    same_steps: float
    ending_on_time: float = 0.0

    def check_small(self) -> None:
        _check(self.as_timed < AS_TIMED, self)
        _check(self.same_steps < SAME_STEPS, self)
        _check(self.ending_on_time < ENDING_ON_TIME, self)
        _check(abs(self.our_evaluations - self.plain_evaluations) <= EVALUATIONS_PER_STEP, self)


def check_odenet(trainer: Trainer, plain: PlainODENet) -> Agreement:
    """On one training batch; raises BenchmarkFailed."""
    batch = next(endless(trainer))
    ours, our_evaluations = _our_gradient(trainer.model, trainer.integrator, batch)
    plain.field.evaluations = 0
    as_timed = _distance(ours, _plain_gradient(plain, batch))
    found = Agreement(
        our_evaluations=our_evaluations,
        plain_evaluations=plain.field.evaluations,
        as_timed=as_timed,
        same_steps=_on_the_same_steps(trainer, plain, batch),
        ending_on_time=_ending_on_time(trainer, plain, batch),
    )
    found.check_small()
    return found


def check_resnet(trainer: Trainer, plain: PlainResNet) -> Agreement:
    """On one training batch; raises BenchmarkFailed."""
    batch = next(endless(trainer))
    as_timed = _distance(_our_gradient(trainer.model, trainer.integrator, batch)[0], _plain_gradient(plain, batch))
    model, other, batch = _in_double(trainer.model, plain, batch)
    same = _distance(_our_gradient(model, trainer.integrator, batch)[0], _plain_gradient(other, batch))
    found = Agreement(our_evaluations=0, plain_evaluations=0, as_timed=as_timed, same_steps=same)
    found.check_small()
    return found


def _on_the_same_steps(trainer: Trainer, plain: PlainODENet, batch: Batch) -> float:
    model, other, batch = _in_double(trainer.model, plain, batch)
    other.method, other.options = "rk4", {"step_size": 1 / 4}
    integrator = Integrator(solver=RK38(num_steps=4, step_size=None), gradient=trainer.integrator.gradient)
    return _distance(_our_gradient(model, integrator, batch)[0], _plain_gradient(other, batch))


def _ending_on_time(trainer: Trainer, plain: PlainODENet, batch: Batch) -> float:
    model, other, batch = _in_double(trainer.model, plain, batch)
    other.options = {"step_t": batch.ts[1:]}
    return _distance(_our_gradient(model, trainer.integrator, batch)[0], _plain_gradient(other, batch))


def _in_double(model: nn.Module, plain: Plain, batch: Batch) -> tuple[nn.Module, Plain, Batch]:
    few = Batch(batch.inputs[:8].double(), batch.ts.double(), batch.targets[:8])
    return copy.deepcopy(model).double(), copy.deepcopy(plain).double(), few


def _our_gradient(model: nn.Module, integrator: Integrator, batch: Batch) -> tuple[Mapping[str, Tensor], int]:
    model.zero_grad()
    before = integrator.ledger.tally.evaluations
    F.cross_entropy(model(batch.inputs, batch.ts, integrator).values, batch.targets).backward()
    return under_plain_names(_gradients(model)), integrator.ledger.tally.evaluations - before


def _plain_gradient(model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
    model.zero_grad()
    F.cross_entropy(model(batch.inputs), batch.targets).backward()
    return _gradients(model)


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    _check(ours.keys() == theirs.keys(), f"parameters {set(ours) ^ set(theirs)}")
    apart = sum(float((ours[name] - theirs[name]).square().sum()) for name in theirs)
    return (apart / sum(float(gradient.square().sum()) for gradient in theirs.values())) ** 0.5


def _check(holds: bool, found: "Agreement | str") -> None:
    if not holds:
        shown = found if isinstance(found, str) else asdict(found)
        raise BenchmarkFailed(f"the two sides do not compute the same thing: {shown}")
