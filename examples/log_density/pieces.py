"""A density by a continuous flow, log p(x) = log N(y(1)) + the integral of tr df/dy, and a task that asks for one."""

import torch
from torch import nn

from ode_runner.batch import Answer, Batch, Split, TaskSpec
from ode_runner.integral import Integral, trace
from ode_runner.models.base import Model, Numerics
from ode_runner.tasks.base import Task


class ContinuousFlow(Model):
    """Takes data along a learned field to standard normal noise. The integral is the objective, so it is judged."""

    numerics, gives = Numerics.ANY, frozenset({Answer.LOG_DENSITY})

    def __init__(self, network):
        super().__init__(network)
        self.stem, self.field = nn.Identity(), network.field()
        self.divergence = Integral(lambda t, y, dy, vjp: trace(y, vjp), judged=True)

    def evolve(self, y0, ts, integrate):
        return integrate(self.field, y0, ts, integrals={"divergence": self.divergence})

    def decode(self, encoding, ts, integrate):
        solution = self.evolve(encoding, ts, integrate)
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(solution.ys[-1]).sum(dim=1)
        return normal + solution.integrals["divergence"][-1]


class TwoBumps(Task):
    """0.5 N(-1.5, 0.4^2) + 0.5 N(1.5, 0.4^2); the divergence reported, mean of log p - log q, is 0 at best."""

    objective, needs, higher_is_better = "divergence", frozenset({Answer.LOG_DENSITY}), False
    spec = TaskSpec(input_shape=(1,), output_shape=(1,))

    def __init__(self, *, count: int, seed, device):
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(2, (len(Split), count, 1), generator=generator) * 2.0 - 1
        self.points = (1.5 * signs + 0.4 * torch.randn(len(Split), count, 1, generator=generator)).to(device)

    def size(self, split):
        return self.points.shape[1]

    def batches(self, split, *, batch_size, epoch):
        for x in self.points[list(Split).index(split)].split(batch_size):
            bumps = torch.distributions.Normal(x.new_tensor([-1.5, 1.5]), 0.4).log_prob(x)
            yield Batch(x, x.new_tensor([0.0, 1.0]), bumps.logsumexp(dim=1) - x.new_tensor(2.0).log())

    def loss(self, outputs, batch):
        return -outputs.values.mean()

    def metrics(self, outputs, batch):
        return {"divergence": (batch.targets - outputs.values).mean()}
