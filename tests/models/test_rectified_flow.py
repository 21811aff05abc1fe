"""Rectified flow: pairs of a known field, lines between them, and runs in stages."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.field import VectorField, broadcast_time
from ode_runner.models.generators.rectified_flow import RectifiedFlow
from ode_runner.types import State, Time
from tests.helpers import check_refused, rows_of, run_folders, typed
from tests.models.test_path_models import SMALL, STD, TOLD, integrator, known, loss_of, model_of
from tests.problems import Compose
from tests.resuming import assert_equal, outcome, stop_before

STEPS = 10  # of an epoch of SMALL; a stage has two epochs
COMMAND = (*SMALL, "model=rectified_flow", "model.pairs=100", "solver=euler", "solver.num_steps=1", "schedule=cosine")


class Straight(VectorField):
    """The velocity of the lines from noise e to STD e, which meet nowhere but at 0."""

    batched_time = True

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        time = broadcast_time(t, y)
        return (1 - STD) * y / ((1 - time) * STD + time)


def reflowed(composed: Compose, **options: Any) -> tuple[RectifiedFlow, dict[str, Tensor]]:
    """A model in its first reflow, whose first field was that of data N(0, STD^2 I), and its pairs."""
    model = known(composed, "rectified_flow", pairs=400, **options)
    assert isinstance(model, RectifiedFlow)
    model.earlier[0].inner = model.field.inner
    made = model.make_stage(torch.zeros(5, 2), integrator(composed), seed=0)
    model.begin_stage(made)
    return model, made


@pytest.mark.usefixtures("float64")
def test_pairs_of_a_known_field_keep_their_order(composed: Compose) -> None:
    """The flow of a normal distribution is a multiple of the noise, in every coordinate."""
    _, made = reflowed(composed)
    torch.testing.assert_close(made["data"], STD * made["noise"], rtol=1e-5, atol=1e-6)
    assert float(made["noise"].std()) == pytest.approx(1, abs=0.1)


@pytest.mark.usefixtures("float64")
def test_what_a_reflow_of_it_learns_is_straight(composed: Compose) -> None:
    """Unlike the first field's, its loss has no floor but 0, and one step of Euler's ends where many do."""
    model, made = reflowed(composed)
    model.field.inner = Straight()
    for training in (True, False):
        model.train(training)
        assert float(loss_of(model, torch.zeros(50, 2), composed)) < 1e-10
    end = made["noise"] - model.field(torch.tensor(1.0), made["noise"])
    torch.testing.assert_close(end, made["data"], rtol=1e-5, atol=1e-6)


def test_what_is_held_out_is_learned_from_by_nobody(composed: Compose) -> None:
    model, made = reflowed(composed)
    data, noise = torch.zeros(500, 2), torch.zeros(500, 2)
    model.train()
    seen = {tuple(row) for row in model.coupled(data, noise, []).noise.tolist()}
    model.eval()
    held = {tuple(row) for row in model.coupled(data, noise, []).noise.tolist()}
    assert not seen & held
    assert held == {tuple(row) for row in made["noise"][:40].tolist()}


def test_conditions_go_with_their_pairs(composed: Compose) -> None:
    model = model_of(composed, "rectified_flow", TOLD, pairs=60)
    inputs = torch.cat([torch.randn(30, 2), torch.eye(3)[torch.arange(30) % 3]], dim=1)
    made = model.make_stage(inputs, integrator(composed, tolerance=1e-5), seed=0)
    model.begin_stage(made)
    found = model.train().coupled(inputs[:, :2], torch.zeros(30, 2), [inputs[:, 2:]])
    for noise, data, condition in zip(found.noise, found.data, found.given[0], strict=True):
        [row] = torch.nonzero((made["noise"] == noise).all(dim=1)).flatten()
        assert torch.equal(made["data"][row], data)
        assert torch.equal(made["condition"][row], condition)


def test_another_seed_and_another_reflow_draw_other_noise(composed: Compose) -> None:
    model, made = reflowed(composed, reflows=2)
    again = model.make_stage(torch.zeros(5, 2), integrator(composed), seed=0)
    assert not torch.equal(again["noise"], made["noise"])
    first, _ = reflowed(composed)
    first.reached.zero_()
    other = first.make_stage(torch.zeros(5, 2), integrator(composed), seed=1)
    assert not torch.equal(other["noise"], made["noise"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("solver=ddpm",), "no such path is theirs. Use a solver without noise"),
        (("solver=edm_heun", "solver.s_churn=1"), "no such path is theirs"),
        (("model.reflows=0",), "without a reflow this is model=flow_matching"),
        (("model.pairs=5",), "model.pairs must be 20 at least"),
        (("processes=2", "oversubscribe=true"), "in the main process alone. Use processes=1"),
        (("model=flow_matching", "model.coupling=minibatch_ot", "solver=euler_maruyama"), "no such path is theirs"),
    ],
    ids=" ".join,
)
def test_what_cannot_mean_anything_is_refused_in_a_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    check_refused(*SMALL, "model=rectified_flow", *words, sentence=sentence, cwd=tmp_path)


@pytest.mark.slow
def test_a_run_stopped_in_a_reflow_goes_on_with_its_pairs_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    assert typed(*COMMAND, "trainer.log_every=1", cwd=whole).returncode == 0
    stop_before(2 * STEPS + 4, (*COMMAND, "trainer.log_every=1"), parts)
    [folder] = run_folders(parts)
    kept = (folder / "checkpoints" / "stage-1.pt").read_bytes()
    assert "resuming at step 24 of 40" in typed(*COMMAND, "trainer.log_every=1", cwd=parts).stdout
    assert_equal(outcome(parts), outcome(whole))
    assert (folder / "checkpoints" / "stage-1.pt").read_bytes() == kept
    rates = [row["optim/lr"] for row in rows_of(folder) if "optim/lr" in row]
    assert rates[2 * STEPS : 4 * STEPS] == rates[: 2 * STEPS], "each stage has a schedule of its own"
    assert rates[0] > 10 * rates[2 * STEPS - 1]
    record = json.loads((folder / "record.json").read_text())
    assert len(record["cost"]["learned_from"]) == 12
    assert {"test/straightness", "test/straightness_teacher", "test/sw2_teacher"} <= record["metrics"].keys()


def test_a_run_that_ends_before_its_reflow_says_so(tmp_path: Path) -> None:
    """Its weights are those of flow matching, under another name."""
    told = "training ended in stage 1 of 2, so the later stages have learned nothing"
    assert told in typed(*COMMAND, "trainer.max_steps=5", "pictures=false", cwd=tmp_path).stdout
    assert "training ended in" not in typed(*COMMAND, "trainer.epochs=1", "pictures=false", cwd=tmp_path).stdout


def test_without_its_pairs_a_run_does_not_go_on(tmp_path: Path) -> None:
    stop_before(2 * STEPS + 4, COMMAND, tmp_path)
    [folder] = run_folders(tmp_path)
    (folder / "checkpoints" / "stage-1.pt").unlink()
    ended = typed(*COMMAND, cwd=tmp_path)
    assert ended.returncode == 2
    assert "To start over, add rerun=all" in ended.stderr


@pytest.mark.slow
def test_a_trained_run_is_sampled_again_and_another_sampler_takes_its_weights(tmp_path: Path) -> None:
    assert typed(*COMMAND, cwd=tmp_path, pictures=True).returncode == 0
    [folder] = run_folders(tmp_path)
    assert (folder / "plots" / "straightness.png").is_file()
    ended = typed(f"evaluate={folder}", "solver=heun", "solver.num_steps=3", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [written] = folder.glob("evaluations/heun-*/evaluation.json")
    record = json.loads((folder / "record.json").read_text())
    assert json.loads(written.read_text())["metrics"]["test/loss"] == record["metrics"]["test/loss"]
    again = typed(*COMMAND, "solver=ddim", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing is trained" in again.stdout
    assert "nothing is trained" not in typed(*COMMAND, "model.pairs=60", cwd=tmp_path).stdout
