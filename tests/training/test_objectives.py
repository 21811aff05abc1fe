"""What training minimises is one objective, named by the model's class, wherever a loss is asked for."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ode_runner.analysis.derivative import differentiate
from ode_runner.batch import Batch, Outputs, Split
from ode_runner.build import build_experiment
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import RefusedInput
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.fields.ledger import Phase
from ode_runner.objectives.supervised import Supervised
from ode_runner.recording.record import RunRecord
from tests.conftest import Compose
from tests.helpers import TINY, own_models, record_of, rows_of, run_folder, typed

QUICK = ("trainer=quick", "trainer.max_steps=3", "trainer.log_every=1", "logger=none", *TINY)

OWN = """
from ode_runner.models.depth.odenet import ODENet
from ode_runner.objectives.base import Loss, Objective
from ode_runner.problem import Solution
from torchdiffeq import odeint


class Decayed(Objective):
    \"\"\"The task's loss and a price on the weights of the head.\"\"\"

    def loss(self, model, task, batch, integrate):
        outputs = model(batch.inputs, batch.ts, integrate)
        terms = {"task": task.loss(outputs, batch), "decay": model.head.weight.square().sum()}
        return Loss(terms["task"] + 2 * terms["decay"], terms, outputs)


class Matching(Objective):
    \"\"\"No solve and no answer: the field at the first time, against the state.\"\"\"

    solves = False

    def loss(self, model, task, batch, integrate):
        y = model.encode(batch.inputs).y0
        return Loss((model.field(batch.ts[0], y) - y).square().mean(), {})


class Priced(ODENet.__base__):
    numerics, objective = ODENet.numerics, Decayed()

    def __init__(self, network):
        super().__init__(network)
        self.field, self.head = network.field(), network.head()

    def evolve(self, y0, ts, integrate):
        return integrate(self.field, y0, ts)


class Matched(Priced):
    objective = Matching()


class WithoutOutputs(Decayed):
    def loss(self, *args):
        return super().loss(*args)._replace(outputs=None)


class Unanswered(Priced):
    objective = WithoutOutputs()


class Borrowed(Priced):
    def evolve(self, y0, ts, integrate):
        return Solution(ys=odeint(self.field, y0.y0, ts, method="rk4"))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    own_models(tmp_path, "own_objectives", OWN, "Priced", "Matched", "Unanswered", "Borrowed")
    return tmp_path


def test_the_terms_of_an_own_objective_are_in_training_validation_and_test(own: Path) -> None:
    ended = typed("-cd", "conf", "model=priced", *QUICK, cwd=own)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows, metrics = rows_of(run_folder(own)), record_of(own)["metrics"]
    trained, [validated] = [row for row in rows if "train/loss" in row], [row for row in rows if "eval/loss" in row]
    assert len(trained) == 3
    for row, loss, terms in (
        *((row, "train/loss", "loss") for row in trained),
        (validated, "eval/loss", "eval/loss"),
        (metrics, "test/loss", "test/loss"),
    ):
        assert row[loss] == pytest.approx(row[f"{terms}/task"] + 2 * row[f"{terms}/decay"])
        assert row[f"{terms}/decay"] > 0
    assert trained[0]["loss/decay"] != trained[2]["loss/decay"], "it is trained by"


def test_an_objective_that_keeps_the_outputs_is_told_who_measures_them(own: Path) -> None:
    ended = typed("-cd", "conf", "model=unanswered", *QUICK, cwd=own)
    assert ended.returncode == 2
    assert "measured if WithoutOutputs.loss returns the model's outputs, too: Loss(total, terms" in ended.stderr


@pytest.mark.parametrize(("model", "told"), [("borrowed", True), ("priced", False), ("matched", False)])
def test_a_solve_by_another_library_is_told(model: str, told: bool, own: Path) -> None:
    ended = typed("-cd", "conf", f"model={model}", *QUICK, cwd=own)
    assert ended.returncode == 0, ended.stderr
    said = "Borrowed solves nothing by `integrate`: solver=dopri5 and gradient=backprop do nothing"
    assert (said in ended.stdout) is told
    assert ("solves nothing" in ended.stdout) is told


def test_an_objective_without_an_answer_has_metrics_in_the_test_only(own: Path) -> None:
    ended = typed("-cd", "conf", "model=matched", *QUICK, cwd=own)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows, metrics = rows_of(run_folder(own)), record_of(own)["metrics"]
    trained, [validated] = [row for row in rows if "train/loss" in row], [row for row in rows if "eval/loss" in row]
    assert "train/accuracy" not in trained[0]
    assert not any(name.startswith("loss/") for name in trained[0]), "a loss of one piece has no terms"
    assert "eval/accuracy" not in validated, "the best weights are chosen by the loss, which needs no solve"
    assert validated["nfe/eval"] == 0
    assert 0 <= metrics["test/accuracy"] <= 1
    assert trained[2]["train/loss"] < trained[0]["train/loss"]
    assert metrics["nfe/eval"] > 0, "it is solved in the test"


@pytest.mark.slow
def test_a_gradient_mode_that_training_does_not_ask_for_is_not_used(own: Path) -> None:
    ended = typed("-m", "-cd", "conf", "model=matched", "gradient=backprop,reversible,adjoint", *QUICK, cwd=own)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = record_of(own)  # one for all
    assert record["choices"]["gradient"] == "-"
    assert run_folder(own).name.startswith("matched-dopri5-none-")
    refused = typed("-cd", "conf", "model=matched", "audit=true", *TINY, cwd=own)
    assert refused.returncode == 2
    assert "has no solve to differentiate" in refused.stderr
    refused = typed("-cd", "conf", "model=matched", "trainer.compile=on", *QUICK, cwd=own)
    assert refused.returncode == 2
    assert "the model is trained without a solve" in refused.stderr


@pytest.mark.slow
def test_what_is_typed_for_an_unused_axis_makes_no_other_run(tmp_path: Path) -> None:
    small = ("task.train=4", "task.validation=2", "task.test=2", "task.points=12", "task.window=5", "logger=none")
    plain = ("task=linear", "model=exact", *small)
    for words in ((), ("network=conv", "gradient=reversible"), ("network=separable", "gradient=symplectic")):
        ended = typed(*plain, *words, "rerun=all", cwd=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "model=exact uses neither network nor gradient" in ended.stdout
        record = RunRecord.read(run_folder(tmp_path))  # the only one
        assert record is not None
        assert (record.choices["network"], record.choices["gradient"]) == ("-", "-")
        assert not any(name.startswith(("with.network", "with.gradient")) for name in record.hyperparameters())
        assert "with.solver.rtol" in record.hyperparameters()


def test_passes_audits_and_evaluation_have_one_loss(composed: Compose) -> None:
    cfg = composed("trainer.precision=fp64", *TINY)
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    batch = next(experiment.task.batches(Split.TRAIN, batch_size=8, epoch=0)).to(torch.float64)
    loss = experiment.loss(batch)
    random = RandomState.now(experiment.device)
    passed = ForwardPass(experiment, phase=Phase.FORWARD)(batch, measure_memory=False)
    assert float(passed.loss.total.detach()) == float(loss.total.detach())
    found = differentiate(experiment, batch, random)
    assert found.loss == float(loss.total.detach())
    own = torch.autograd.grad(loss.total, experiment.parameters())
    torch.testing.assert_close(found.vector, torch.cat([part.flatten() for part in own]), rtol=0, atol=0)


def test_a_loss_is_not_lowered_with_the_model(composed: Compose) -> None:
    cfg = composed("trainer.precision=bf16", *TINY)
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    loss = experiment.loss(next(experiment.task.batches(Split.TRAIN, batch_size=8, epoch=0)))
    assert loss.outputs is not None
    assert (loss.total.dtype, loss.outputs.values.dtype) == (torch.float32, torch.float32)


def test_a_term_of_the_tasks_own_name_is_refused() -> None:
    outputs = Outputs(torch.ones(3, 2), {"task": torch.ones(3)})
    batch = Batch(torch.ones(3, 2), torch.tensor([0.0, 1.0]), torch.zeros(3))
    task = SimpleNamespace(running_costs=dict)
    with pytest.raises(RefusedInput, match="no name of the task's own: task"):
        Supervised().loss(lambda *asked: outputs, task, batch, None)  # type: ignore[arg-type]
