"""Flow matching: the field is learned without a solve, from straight lines between data (t = 0) and noise (t = 1)."""

import torch
from torch import nn

from ode_runner.batch import Answer, Batch, Split, TaskSpec
from ode_runner.models.base import Model, Numerics
from ode_runner.objectives.base import Loss, Objective
from ode_runner.tasks.base import Task


class StraightLines(Objective):
    solves = False

    def loss(self, model, task, batch, integrate):
        t, velocity = torch.rand_like(batch.targets[:, 0]), torch.randn_like(batch.targets) - batch.targets
        slope = integrate.evaluate(model.field, t, batch.targets + t[:, None] * velocity)
        return Loss((slope - velocity).square().mean())


class FlowMatching(Model):
    """Answers with samples: its inputs are noise, which the learned field takes from t = 1 to t = 0."""

    numerics, gives, objective = Numerics.ANY, frozenset({Answer.SAMPLES}), StraightLines()

    def __init__(self, network):
        super().__init__(network)
        self.stem, self.head, self.field = nn.Identity(), nn.Identity(), network.field()

    def evolve(self, y0, ts, integrate):
        return integrate(self.field, y0, ts.flip(0))


class TwoBumps(Task):
    """0.5 N(-1.5, 0.4^2) + 0.5 N(1.5, 0.4^2); the energy distance of samples to as many points is reported."""

    objective, needs, higher_is_better = "energy_distance", frozenset({Answer.SAMPLES}), False
    spec = TaskSpec(input_shape=(1,), output_shape=(1,))

    def __init__(self, *, count: int, seed, device):
        generator = torch.Generator().manual_seed(seed)
        self.noise, spread, side = torch.randn(3, len(Split), count, 1, generator=generator).to(device)
        self.data = 1.5 * side.sign() + 0.4 * spread

    def size(self, split):
        return self.data.shape[1]

    def batches(self, split, *, batch_size, epoch):
        both = (x[list(Split).index(split)].split(batch_size) for x in (self.noise, self.data))
        for noise, data in zip(*both, strict=True):
            yield Batch(noise, noise.new_tensor([0.0, 1.0]), data)

    def loss(self, outputs, batch):
        return self.metrics(outputs, batch)["energy_distance"]

    def metrics(self, outputs, batch):
        apart = [
            torch.cdist(x, y).mean() for x in (outputs.values, batch.targets) for y in (outputs.values, batch.targets)
        ]
        return {"energy_distance": apart[1] + apart[2] - apart[0] - apart[3]}
