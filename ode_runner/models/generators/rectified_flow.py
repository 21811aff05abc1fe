"""Rectified flow."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, final

import torch
from torch import Tensor, nn

from ode_runner.errors import RefusedInput
from ode_runner.models.generator import Generator
from ode_runner.models.generators.path_model import PathModel
from ode_runner.models.generators.predicted_field import PredictedField
from ode_runner.models.generators.staged import StagedModel
from ode_runner.networks.base import Network
from ode_runner.objectives.path_regression import Coupled
from ode_runner.paths.heads import Head
from ode_runner.paths.linear import Linear
from ode_runner.problem import Integrate
from ode_runner.types import State

AT_ONCE = 2000  # pairs per solve
HELD_OUT = 10  # one of this many pairs is for validation


@final
class RectifiedFlow(PathModel, StagedModel):
    """Learns the velocity of straight lines, e - x_0: first between independent data and noise, then for each reflow.

    A reflow draws noise, solves the present field from noise to data, and learns the lines between these pairs. If it
    is learned exactly, the new field has the same samples and straighter trajectories. Errors of the samples remain.

    Args:
        reflows: number of reflows.
        pairs: pairs per reflow; a tenth of them is for validation.

    Liu, Gong, Liu. Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow. ICLR 2023,
    algorithm 1. Time runs the other way there, and the first field is counted as well.
    """

    of_path = False
    reached: Tensor  # (), number of reflows so far

    def __init__(self, network: Network, *, reflows: int, pairs: int, guidance: float, hidden: float) -> None:
        super().__init__(network, guidance=guidance, hidden=hidden, start_time=1.0, end_time=0.0)
        if reflows < 1:
            raise RefusedInput(f"model.reflows={reflows}: without a reflow this is model=flow_matching. Use 1 or more.")
        if pairs < 2 * HELD_OUT:
            raise RefusedInput(f"model.pairs must be {2 * HELD_OUT} at least, not {pairs}.")
        self.stages, self.pairs = 1 + reflows, pairs
        self.regresses = f"the velocity after {reflows} reflow{'s' * (reflows > 1)}"
        self.field = PredictedField(network.field(given=network.spec.condition), path=Linear(), head=Head.V)
        self.earlier = nn.ModuleList(deepcopy(self.field).requires_grad_(False) for _ in range(reflows))
        self.register_buffer("reached", torch.zeros((), dtype=torch.int64))
        for name, size in self._sizes().items():
            self.register_buffer(f"held_{name}", torch.zeros(pairs // HELD_OUT, *size))
        self.learned: Mapping[str, Tensor] = {}  # pairs of the present reflow, for training

    def target(self, t: Tensor, data: State, noise: State) -> State:
        return noise - data

    def weight(self, t: Tensor) -> None:
        del t

    def coupled(self, data: State, noise: State, given: Sequence[Tensor]) -> Coupled:
        """In a reflow, a batch of its pairs: random ones in training; otherwise fixed ones of those held out."""
        if not self.reached:
            return super().coupled(data, noise, given)
        if not self.training:
            rows = torch.arange(len(data), device=data.device) % (self.pairs // HELD_OUT)
            return self._chosen({name: getattr(self, f"held_{name}") for name in self._sizes()}, rows)
        rows = torch.randint(len(self.learned["noise"]), (len(data),), device=data.device)
        return self._chosen(self.learned, rows)

    @torch.no_grad()
    def make_stage(self, inputs: Tensor, integrate: Integrate, *, seed: int) -> dict[str, Tensor]:
        drawn = torch.Generator().manual_seed((seed << 8) + int(self.reached) + 1)
        noise = torch.randn(self.pairs, *self.shape, generator=drawn).to(inputs)
        rows = torch.randint(len(inputs), (self.pairs,), generator=drawn).to(inputs.device)
        condition = self.spec.split_condition(inputs)[1][rows]
        ts, given = noise.new_tensor([1.0, 0.0]), [condition] if self.spec.condition else []
        parts = [[z[part] for z in (noise, *given)] for part in torch.arange(self.pairs).split(AT_ONCE)]
        data = torch.cat([integrate(self.field, begin, ts, given=conditions).ys[-1] for begin, *conditions in parts])
        return {"noise": noise, "data": data, "condition": condition}

    @torch.no_grad()
    def begin_stage(self, made: Mapping[str, Tensor]) -> None:
        self.earlier[int(self.reached)].load_state_dict(self.field.state_dict())
        self.reached += 1
        for name in self._sizes():
            held: Tensor = getattr(self, f"held_{name}")
            held.copy_(made[name][: len(held)])
        self.resume_stage(made)

    def resume_stage(self, made: Mapping[str, Tensor]) -> None:
        held = self.pairs // HELD_OUT
        self.learned = {name: made[name][held:].to(getattr(self, f"held_{name}")) for name in self._sizes()}

    def teacher_generator(self) -> Generator | None:
        """The first field, before any reflow."""
        first: Any = self.earlier[0]
        return self._generator(first) if self.reached else None

    def _chosen(self, pairs: Mapping[str, Tensor], rows: Tensor) -> Coupled:
        data, noise, condition = (pairs[name][rows] for name in ("data", "noise", "condition"))
        return Coupled(data, noise, [condition] if self.spec.condition else [])

    def _sizes(self) -> dict[str, Sequence[int]]:
        """The shapes of the parts of a pair."""
        return {"noise": self.shape, "data": self.shape, "condition": (self.spec.condition,)}
