"""Training passes read no value of a tensor: on a GPU the CPU would wait for it, and no graph could be recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from ode_runner.batch import Split
from ode_runner.build import build_experiment
from tests.helpers import latest
from tests.problems import Compose

SMALL = ("trainer.device=cpu", "trainer.batch_size=4", "network.width=4")
ATTENTION = ("network=transformer", "network.heads=2")
RK4 = ("solver=rk4", "solver.num_steps=2")
TEXTS = ("task=markov_text", *ATTENTION)
CELLS = {
    "rk4": ("task=digits", *RK4),
    "rk4, kinetic": ("task=digits", *RK4, "regularizer=kinetic"),
    "attention": ("task=digits", *RK4, *ATTENTION),
    "ode_transformer": ("task=digits", *ATTENTION, "model=ode_transformer"),
    "galerkin": ("task=half_moons", "solver=rk4", "solver.num_steps=20", "model=galerkin"),
    "cnf": ("task=density2d", *RK4, "model=cnf"),
    "glow": ("task=digits_density", "model=glow"),
    "sde": ("task=gbm", "model=sde", "solver=euler_maruyama"),
    # no chains of replaced tokens: torch's one_hot() looks at its numbers, on a CPU alone
    **{model: (*TEXTS, f"model={model}") for model in ("masked_diffusion", "diffusion_lm", "logit_flow")},
}


class Reads(TorchDispatchMode):
    """Notes operations that need values on the CPU, and numbers of Python that would be sent to a GPU."""

    OF_VALUES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: OpOverload[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if name in self.OF_VALUES or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", CELLS)
def test_a_training_pass_reads_no_value(name: str, composed: Compose) -> None:
    cfg = composed(*latest([*SMALL, *CELLS[name]]))
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    batch = next(experiment.task.batches(Split.TRAIN, batch_size=4, epoch=0)).to(experiment.dtype)
    if experiment.model.initialised_by_data:
        experiment.model.initialise(batch.inputs)
    experiment.model.train()
    experiment.loss(batch)  # what is done once
    with Reads() as reads:
        loss = experiment.loss(batch)
        torch.autograd.grad(loss.total, experiment.parameters(), allow_unused=True)
        experiment.metrics(loss, batch)
    assert not reads.found
    assert bool(loss.total.isfinite())
