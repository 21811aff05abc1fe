"""The sentence on parameters that training does not change, and that no built-in cell gets one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import Split
from ode_runner.build import build_experiment
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.experiment.unused_parameters import MOST_NODES, nodes_so_far, sentences_on_parameters
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.objectives.base import Loss
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from tests.conftest import Compose
from tests.helpers import TINY, typed

Make = Callable[[], nn.Module]


class Two(nn.Module):
    """Two layers, of which `how` says how the second is used; `frozen` asks for no gradient."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.first, self.second, self.frozen = how, nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 2)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.how == "unused":
            return h
        if self.how == "detached":
            return self.second(h.detach())
        if self.how == "without a graph":
            with torch.no_grad():
                shift = self.second(h)
            return h + shift
        if self.how == "replaced":
            return nn.Linear(2, 2)(h)
        if self.how == "made anew":
            return self.second(nn.Linear(2, 2)(h))
        return self.second(h)


@pytest.mark.parametrize(
    ("how", "sentences"),
    [
        ("used", []),
        ("unused", ["the loss does not depend on second.weight, second.bias, 2 of 4 parameters"]),
        ("without a graph", ["the loss does not depend on second.weight, second.bias, 2 of 4 parameters"]),
        ("detached", ["the loss does not depend on first.weight, first.bias, 2 of 4 parameters"]),
        ("made anew", ["the loss depends on 2 parameters that are not the model's (of shape (2,), (2, 2))"]),
        (
            "replaced",
            [
                "the loss does not depend on second.weight, second.bias, 2 of 4 parameters",
                "the loss depends on 2 parameters that are not the model's (of shape (2,), (2, 2))",
            ],
        ),
    ],
)
def test_parameters_that_keep_their_values_are_named(how: str, sentences: list[str]) -> None:
    model = Two(how)
    found = sentences_on_parameters(model, Loss(model(torch.ones(3, 2)).sum()), before=nodes_so_far())
    assert len(found) == len(sentences)
    assert all(one.startswith(sentence) for one, sentence in zip(found, sentences, strict=True))


def test_many_are_counted() -> None:
    model = nn.ModuleList([nn.Linear(1, 1) for _ in range(4)])
    [found] = sentences_on_parameters(model, Loss(model[0](torch.ones(1, 1)).sum()), before=nodes_so_far())
    assert "1.weight, 1.bias, 2.weight and 3 more, 6 of 8 parameters" in found


def test_a_loss_without_a_graph_is_refused_elsewhere() -> None:
    assert sentences_on_parameters(nn.Linear(1, 1), Loss(torch.zeros(())), before=0) == []


def test_a_very_large_graph_is_not_visited() -> None:
    """PyTorch would end the process when it frees the graph."""
    before, layer, y = nodes_so_far(), nn.Linear(2, 2), torch.ones(1, 2)
    states = [y := y + torch.tanh(layer(y)) for _ in range(MOST_NODES)]
    loss = Loss(torch.stack(states).mean())
    del states, y
    assert sentences_on_parameters(nn.Linear(1, 1), loss, before=before) == []
    assert before < nodes_so_far() - MOST_NODES
    del loss


class DetachingBackprop(Backprop):
    """A gradient mode that forgets the gradient."""

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        solution = super().solve(solver, problem)
        return Solution(ys=solution.ys.detach(), accepted=solution.accepted)


def test_a_gradient_mode_that_detaches_is_named_once(composed: Compose) -> None:
    cfg = composed("trainer.device=cpu", *TINY)
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    object.__setattr__(experiment.integrator, "gradient", DetachingBackprop())
    forward = ForwardPass(experiment, phase=Phase.FORWARD)
    batch = next(experiment.task.batches(Split.TRAIN, batch_size=20, epoch=0))
    forward(batch, measure_memory=True)
    forward(batch, measure_memory=True)
    remarks = [forward.remark(), forward.remark()]
    assert "does not depend on field.layers.0.weight" in remarks[0]
    assert remarks[1] == ""


def test_a_run_says_it_once_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text(
        "from torch import nn\nfrom ode_runner.models.depth.odenet import ODENet\n\n\n"
        "class Larger(ODENet):\n    def __init__(self, network):\n"
        "        super().__init__(network)\n        self.spare = nn.Linear(2, 3)\n"
    )
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/larger.yaml").write_text("defaults: [odenet]\n_target_: mine.Larger\n")
    ended = typed("-cd", "conf", "model=larger", "trainer.epochs=1", "trainer.device=cpu", *TINY, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    said = "the loss does not depend on spare.weight, spare.bias, 2 of "
    assert (ended.stdout + ended.stderr).count(said) == 1
