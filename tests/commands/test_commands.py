"""A trained run is put to the test again, and asked for its states, without typing its command anew."""

import csv
import json
import math
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import ode_runner as ode
from ode_runner.api.function_field import FunctionField
from ode_runner.building.members import ways
from ode_runner.commands.dispatch import _of_run
from ode_runner.commands.evaluate import _in_words, _plain, describe_as_ode, much_finer
from ode_runner.commands.original_command import with_original_command
from ode_runner.commands.predict import _inputs
from ode_runner.errors import RefusedInput, can_be_typed, either, taken_as_they_are
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.recording.bookkeeping import COMMANDS
from ode_runner.recording.lock import lock
from ode_runner.recording.strict_json import to_json
from ode_runner.solvers.base import Solver
from tests.helpers import TINY, Ended, options, predicted, record_of, run_folder, run_folders, typed
from tests.problems import Compose, build

SYSTEM = (
    *("task=lotka_volterra", "task.train=4", "task.validation=2", "task.test=2", "task.points=12", "task.window=5"),
    *("trainer.batch_size=8", "trainer.epochs=3", "logger=none"),
)
RUNS = {
    "moons": ("solver=rk4", "solver.num_steps=3", "gradient=adjoint", "logger=none", "trainer.epochs=2", *TINY),
    "crude": ("model=rknet", "solver=euler", "solver.num_steps=2", "logger=none", "trainer.epochs=2", *TINY),
    "resnet": ("model=resnet", "logger=none", "trainer.epochs=1", *TINY),
    "system": ("solver=dopri5", "solver.rtol=1e-4", *SYSTEM),
    "exact": ("model=exact", "solver=rk4", *SYSTEM),
    "tokens": (
        *("task=sequence_reverse", "model=odenet", "solver=euler", "solver.num_steps=1", "logger=none"),
        *("task.train=20", "task.validation=9", "task.test=9", "task.length=3", "task.symbols=4", "trainer.epochs=1"),
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where each of RUNS was typed; made when first asked for."""

    class Made(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = tmp_path_factory.mktemp(name)
            assert typed(*RUNS[name], cwd=self[name]).returncode == 0
            return self[name]

    return Made()


def revisit(root: Path, way: str, *arguments: str, pictures: bool = False) -> Ended:
    [folder] = [folder for folder in run_folders(root) if folder.name not in ("evaluations", "predictions")]
    return typed(f"{way}={folder.relative_to(root)}", *arguments, cwd=root, pictures=pictures)


def evaluation(root: Path, leaf: str) -> dict[str, Any]:
    [path] = run_folder(root).glob(f"evaluations/{leaf}-*/evaluation.json")
    return json.loads(path.read_text())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", RUNS)
def test_under_its_own_solver_a_run_reaches_exactly_what_it_reached(name: str, trained: Any) -> None:
    record, ended = record_of(trained[name]), revisit(trained[name], "evaluate")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    again = evaluation(trained[name], RUNS[name][0].partition("=")[2] if name in ("moons", "system") else "*")
    expected = {key: value for key, value in record["metrics"].items() if not key.startswith("eval/")}
    assert again["metrics"] == expected
    assert record_of(trained[name]) == record, "the run itself is as it was"


def test_another_solver_is_recorded_beside_the_run(trained: Any) -> None:
    ended = revisit(trained["moons"], "evaluate", "solver=dopri5", "tolerance=1e-5")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = evaluation(trained["moons"], "dopri5")
    assert found["solver"]["class"] == "Dopri5"
    assert found["solver"]["rtol"] == 1e-5
    assert found["training"]["solver"]["num_steps"] == 3
    assert found["much_finer"]["solver"]["num_steps"] == 12
    assert found["metrics"]["nfe/eval"] != found["training"]["metrics"]["nfe/eval"] == 12
    assert found["much_finer"]["metrics"]["nfe/eval"] == 48
    assert found["verdict"] in ended.stdout.replace("\n", " ")


def test_a_solver_that_holds_another_is_recorded_with_it(trained: Any) -> None:
    ended = revisit(trained["moons"], "evaluate", "solver=mccallum_foster", "solver@solver.base=heun")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = evaluation(trained["moons"], "mccallum_foster")["solver"]
    assert (found["class"], found["base"]["class"]) == ("McCallumFoster", "Heun")


def test_a_model_that_says_something_of_itself_does_so_after_a_much_finer_solve(tmp_path: Path) -> None:
    ranges = ("model.shortest=0.99", "model.longest=1.01")
    typed("model=adaptive_depth", *ranges, "trainer.max_steps=1", "logger=none", *TINY, cwd=tmp_path)
    ended = revisit(tmp_path, "evaluate")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("solver", "options", "heading"),
    [
        ("consistency", {"num_steps": 2}, "consistency, 8 steps"),
        ("heun", {"num_steps": 2}, "rk4, 8 steps"),
        ("dopri5", {"rtol": 1e-3}, "dopri5, rtol=1e-05"),
        ("expm", {}, "expm, fp64"),
    ],
)
def test_the_heading_of_much_finer_steps_says_which(
    solver: str, options: dict[str, float], heading: str, composed: Compose
) -> None:
    """More steps than typed were headed "finer" if a sampler made them, and a method without steps, too."""
    assert _in_words(much_finer(build(composed, "solver", solver, **options))) == heading


@pytest.mark.parametrize("name", ["euler", "midpoint", "rk4", "implicit_euler", "ab2", "reversible_heun"])
def test_much_finer_steps_have_a_much_smaller_error(name: str, composed: Compose) -> None:
    """A quarter of Euler's step has a quarter of its error, which is too much for a verdict on the model."""
    growth, y0 = FunctionField(lambda t, y: y * torch.cos(t)), torch.ones(1, 1, dtype=torch.float64)
    coarse = build(composed, "solver", name)
    finer, exact = much_finer(coarse), math.exp(math.sin(1))

    def error(solver: Solver) -> float:
        solved = Integrator(solver=solver, gradient=Backprop())(growth, y0, torch.linspace(0, 1, 2).double())
        return abs(float(solved.ys[-1]) - exact)

    assert error(finer) < error(coarse) / 10


def test_the_columns_say_what_was_typed_and_which_steps_are_finer(tmp_path: Path) -> None:
    typed("solver=euler", "solver.num_steps=2", "trainer.epochs=1", "logger=none", *TINY, cwd=tmp_path)
    ended = revisit(tmp_path, "evaluate", "solver=euler", "solver.num_steps=50")
    assert re.search(r"training +solver=euler num_steps=50 +rk4, 8 steps", ended.stdout)


@pytest.mark.parametrize("name", options("solver"))
def test_every_solver_can_be_recorded(name: str, composed: Compose) -> None:
    solver = build(composed, "solver", name)
    assert json.loads(to_json(_plain(solver)))["class"] == type(solver).__name__


def test_a_weight_tied_network_may_be_put_to_any_solver(trained: Any) -> None:
    ended = revisit(trained["crude"], "evaluate", "solver=bosh3")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert evaluation(trained["crude"], "bosh3")["metrics"]["nfe/eval"] > 2


def test_several_solvers_at_once(trained: Any) -> None:
    root = trained["moons"]
    [folder] = run_folders(root)
    ended = typed("-m", f"evaluate={folder.relative_to(root)}", "solver=heun,midpoint", "solver.num_steps=5", cwd=root)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "  solver=heun num_steps=5  " in ended.stdout
    for solver in ("heun", "midpoint"):
        assert evaluation(root, solver)["solver"]["name"] == solver
    assert not (root / "outputs" / "sweeps").exists()
    assert "ode-report" not in ended.stdout, "which finds no records there"


class Judged:
    """As much of a cell as the verdict looks at."""

    def __init__(self, objective: str, higher_is_better: bool) -> None:
        self.task, self.objective, self.higher_is_better = self, objective, higher_is_better

    def parameters(self) -> list[int]:
        return [1]


@pytest.mark.parametrize(
    ("objective", "higher", "before", "after", "valid"),
    [
        ("accuracy", True, 0.98, 0.975, True),
        ("accuracy", True, 0.98, 0.96, False),
        ("accuracy", True, 0.98, 0.99, True),
        ("rmse", False, 0.10, 0.105, True),
        ("rmse", False, 0.10, 0.12, False),
        ("rmse", False, 0.10, math.nan, False),
        ("elbo", True, -50.0, -50.2, True),
        ("elbo", True, -50.0, -60.0, False),
    ],
)
def test_the_verdict_is_whether_a_finer_solver_makes_it_worse(
    objective: str, higher: bool, before: float, after: float, valid: bool
) -> None:
    cell: Any = Judged(objective, higher)
    sentence = describe_as_ode(cell, {f"test/{objective}": before}, {f"test/{objective}": after}).sentence
    assert sentence.startswith("A valid ODE" if valid else "Not an ODE")


@pytest.mark.slow
def test_a_model_trained_by_two_euler_steps_is_no_ode_and_one_by_a_tight_solver_is(tmp_path: Path) -> None:
    verdicts = []
    for name, solver in (
        ("crude", ("solver=euler", "solver.num_steps=2")),
        ("tight", ("solver=dopri5", "tolerance=1e-5")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        typed("task=half_moons", "trainer.epochs=40", "optimizer.lr=0.01", "logger=none", *solver, cwd=folder)
        verdicts.append(revisit(folder, "evaluate").stdout)
    assert "Not an ODE" in verdicts[0]
    assert "A valid ODE" in verdicts[1]


def predictions(root: Path) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
    path = predicted(run_folder(root), "states.npz")
    rows = list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))
    return dict(np.load(path)), rows


def test_several_draws_of_an_initial_state_are_told_from_several_inputs(tmp_path: Path) -> None:
    sizes = ("task.train=4", "task.validation=2", "task.test=3", "network.samples=2", "network.width=4")
    words = ("task=spiral_vae", *sizes, "trainer.max_steps=1", "solver=euler", "logger=none")
    assert typed(*words, cwd=tmp_path).returncode == 0
    assert "3 samples, 2 draws of each, at 2 times" in revisit(tmp_path, "predict", "times=[0,1]").stdout
    arrays, rows = predictions(tmp_path)
    assert [(row["sample"], row["draw"], row["t"]) for row in rows[:5]] == [
        ("0", "0", "0.0"), ("0", "0", "1.0"), ("0", "1", "0.0"), ("0", "1", "1.0"), ("1", "0", "0.0"),
    ]  # fmt: skip
    run = ode.load(run_folder(tmp_path))
    alone = run.states(arrays["inputs"][1:2], [0.0, 1.0])  # draws do not depend on the company
    for draw in (0, 1):
        [place] = np.flatnonzero((arrays["sample"] == 1) & (arrays["draw"] == draw))
        np.testing.assert_allclose(arrays["states"][:, place], alone[:, draw], rtol=1e-5, atol=1e-6)
        assert float(rows[4 + 2 * draw]["y0"]) == pytest.approx(float(alone[0, draw, 0]))
    told = run.predict(arrays["inputs"], [0.0, 1.0])
    assert told.shape == (2, 3, 2)
    outputs = arrays["outputs"][:, arrays["sample"] == 1].mean(axis=1)
    np.testing.assert_allclose(told[:, 1], outputs, rtol=1e-5, atol=1e-6)


def test_states_are_written_at_the_times_and_for_the_inputs_asked_for(trained: Any) -> None:
    arguments = ("times=[-0.5,0,0.25,3]", "inputs=[[1.0,2.0],[0.5,0.7]]")
    ended = revisit(trained["system"], "predict", *arguments, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    arrays, rows = predictions(trained["system"])
    assert arrays["states"].shape == (4, 2, 2)
    assert arrays["times"].tolist() == [-0.5, 0, 0.25, 3]
    np.testing.assert_array_equal(arrays["states"][1], [[1.0, 2.0], [0.5, np.float32(0.7)]])
    assert len(rows) == 8
    assert list(rows[0]) == ["sample", "t", "x", "y"], "as the task names them"
    assert [float(row["y"]) for row in rows if row["sample"] == "1"] == arrays["states"][:, 1, 1].tolist()
    picture = predicted(run_folder(trained["system"]), "states.png")
    assert picture.stat().st_size > 5000
    np.testing.assert_array_equal(arrays["outputs"], arrays["states"])
    written = {path: path.read_bytes() for path in run_folder(trained["system"]).glob("predictions/*/states.csv")}
    assert revisit(trained["system"], "predict", "times=[0,1]", *arguments[1:]).returncode == 0
    assert len(predictions(trained["system"])[1]) == 4
    assert {path: path.read_bytes() for path in written} == written, "answers to other questions are left as they are"


def test_the_states_of_the_true_field_are_its_solution(trained: Any) -> None:
    arguments = ("times=-1:1:5", "inputs=[[1.0,2.0]]", "solver=dopri5", "tolerance=1e-10")
    ended = revisit(trained["exact"], "predict", *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    states = torch.from_numpy(predictions(trained["exact"])[0]["states"])
    conserved = (states - states.log()).sum(dim=-1)
    torch.testing.assert_close(conserved, torch.full_like(conserved, 3 - math.log(2)), rtol=0, atol=1e-8)  # tolerance


def test_without_times_and_inputs_the_tasks_own_are_taken(trained: Any) -> None:
    assert revisit(trained["moons"], "predict").returncode == 0
    arrays, _ = predictions(trained["moons"])
    assert arrays["times"].tolist() == [0, 1]
    assert arrays["states"].shape == (2, 10, 2)


@pytest.mark.parametrize("name", ["moons", "resnet"])
def test_every_sample_of_the_test_split_is_classified(name: str, trained: Any) -> None:
    ended = revisit(trained[name], "predict")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    path = predicted(run_folder(trained[name]), "predictions.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["sample"] for row in rows] == [str(number) for number in range(20)]
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert right / 20 == pytest.approx(record_of(trained[name])["metrics"]["test/accuracy"])
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
    assert revisit(trained[name], "predict", "inputs=[[0.5,0.25]]").returncode == 0
    [only] = csv.DictReader(predicted(run_folder(trained[name]), "predictions.csv").read_text().splitlines())
    assert only["true"] == "", "nobody knows"


def test_every_position_of_a_sequence_is_classified(trained: Any) -> None:
    ended = revisit(trained["tokens"], "predict")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    path = predicted(run_folder(trained["tokens"]), "predictions.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 9
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert right / 9 == pytest.approx(record_of(trained["tokens"])["metrics"]["test/sequence_accuracy"])
    assert all(len(row["predicted"].split()) == 3 and 1 / 64 <= float(row["probability"]) <= 1 for row in rows)
    assert revisit(trained["tokens"], "predict", "inputs=[[0,3,1]]").returncode == 0
    [only] = csv.DictReader(predicted(run_folder(trained["tokens"]), "predictions.csv").read_text().splitlines())
    assert (only["true"], len(only["predicted"].split())) == ("", 3)
    refused = revisit(trained["tokens"], "predict", "inputs=[[0,4,1]]")
    assert (refused.returncode, "whole numbers from 0 to 3" in refused.stderr) == (2, True)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("run", "arguments", "words"),
    [
        ("moons", ("predict", "times=[1,0]"), "times=[1,0] must increase"),
        ("moons", ("predict", "times=[0,0]"), "must increase"),
        ("moons", ("predict", "times=now"), "times=now is neither a list"),
        ("moons", ("predict", "times=[]"), "times=[] is neither a list"),
        ("moons", ("predict", "times=[nan]"), "times=[nan] is neither a list"),
        ("moons", ("predict", "times=[null]"), "neither a list"),
        ("moons", ("predict", "times=[true]"), "neither a list"),
        ("moons", ("predict", "times=true"), "neither a list"),
        ("moons", ("predict", "times=[[0,1]]"), "neither a list"),
        ("moons", ("predict", "times={a:1}"), "neither a list"),
        ("moons", ("predict", f"times=[{'9' * 400}]"), "neither a list"),
        ("moons", ("predict", "times=0:1:0"), "neither a list"),
        ("moons", ("predict", "times=0:inf:3"), "neither a list"),
        ("moons", ("predict", "times=nan:1:3"), "neither a list"),
        ("moons", ("predict", "times=0:1:100000000000"), "more than 1,000,000 times"),
        ("moons", ("predict", "times=0:1:9223372036854775808"), "more than 1,000,000 times"),
        ("moons", ("predict", "times=0:1e-300:3"), "cannot be distinguished in trainer.precision=fp32"),
        ("moons", ("predict", "times=[0,1e300]"), "too large"),
        ("moons", ("predict", "inputs=[[true,1]]"), "inputs=[[true,1]] must be a list of inputs, each of shape (2,)"),
        ("moons", ("predict", "inputs=nope.csv"), "no file is read. Type the numbers, such as inputs=[[1.0,2.0]], or"),
        ("moons", ("predict", "times=some/where"), "no file is read. Type the numbers, such as times=[0,0.5,2], or"),
        ("moons", ("predict", "inputs=[[1,2],[3]]"), "each of shape (2,)"),
        ("moons", ("predict", "inputs=[[nan,1]]"), "each of shape (2,)"),
        ("moons", ("predict", f"inputs=[[{'9' * 400},1]]"), "each of shape (2,)"),
        ("moons", ("predict", "inputs=[[1e308,1]]"), "too large for trainer.precision=fp32"),
        ("moons", ("predict", "inputs=[[1.0]]"), "each of shape (2,), such as"),
        ("moons", ("predict", "inputs=[[1.0,a]]"), "each of shape (2,)"),
        ("resnet", ("predict", "times=[0,1]"), "model=resnet has blocks and no time between them. Leave times out."),
        ("moons", ("predict", "times=[2024-03-01]"), "times of this run are numbers, and no dates"),
        ("moons", ("predict", "data=new.csv"), "task=half_moons does not read your own files"),
        ("moons", ("predict", "data=[1]"), "data=[1] is no file"),
        ("moons", ("evaluate", "model=odenet"), "model=odenet: evaluate= takes the run as it is"),
        ("moons", ("evaluate", "network.width=9"), "evaluate= takes the run as it is"),
        ("moons", ("evaluate", "seed=3"), "evaluate= takes the run as it is"),
        ("moons", ("evaluate", "solver=dopry5"), "Did you mean 'dopri5'?"),
        ("moons", ("evaluate", "solver.num_stesp=3"), "Did you mean 'solver.num_steps'?"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run: str, arguments: tuple[str, ...], words: str, trained: Any) -> None:
    ended = revisit(trained[run], *arguments)
    assert ended.returncode == 2, ended.stdout
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("shape", "tokens", "said"),
    [
        ((1,), 0, "each of shape (1,), such as [[1.0]]."),
        ((2, 2), 0, "such as [[[1.0,2.0],[3.0,4.0]]]."),
        ((4,), 3, "such as [[0,1,2,0]]."),
        ((100, 4), 0, "each of shape (100, 4). From Python, ode.load(FOLDER).predict(array) takes an array."),
    ],
)
def test_an_example_of_inputs_has_their_shape(shape: tuple[int, ...], tokens: int, said: str) -> None:
    spec = SimpleNamespace(conditioned_shape=shape, tokens=tokens)
    experiment: Any = SimpleNamespace(task=SimpleNamespace(spec=spec))
    with pytest.raises(RefusedInput, match=re.escape(said)):
        _inputs([[[1.0]]], experiment)


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "solver.max_steps=2"),
        pytest.param(("predict", "solver.max_steps=2"), marks=pytest.mark.slow),
        ("predict", "times=[0,1e30]"),
    ],
)
def test_a_solve_that_fails_is_one_sentence_and_exit_code_1(arguments: tuple[str, ...], trained: Any) -> None:
    ended = revisit(trained["system"], *arguments)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "\nsolver_failed: solver=dopri5 stopped at" in f"\n{ended.stdout}"
    assert "Traceback" not in ended.stdout


def test_what_nobody_foresaw_is_one_sentence_with_its_traceback_in_a_file(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("nowhere")

    monkeypatch.setattr("ode_runner.commands.dispatch.predict", broken)
    ended = revisit(trained["system"], "predict", "tolerance=1e-6")
    assert (ended.returncode, ended.stderr) == (1, "")
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("failed: KeyError")]
    [path] = run_folder(trained["system"]).rglob("error.txt")
    assert "in broken" in path.read_text()
    assert "error.txt" in line


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    ended = typed("evaluate=nothing/here", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "evaluate=nothing/here is no run folder" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_misspelt_is_answered_with_the_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "odenet-s0").mkdir()
    assert "Did you mean 'odenet-s0'?" in typed("predict=odnet-s0", cwd=tmp_path).stderr


def test_only_one_thing_is_asked_of_a_run(tmp_path: Path) -> None:
    ended = typed("evaluate=some/run", "audit=true", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (2, "ode-run: evaluate=some/run audit=true: one at a time.\n")


def _stopped(root: Path, status: str, name: str = "moons") -> Path:
    """A run as a kill or an interruption leaves it: its record has no metrics, and checkpoints lie there."""
    assert typed(*RUNS[name], cwd=root).returncode == 0
    folder = run_folder(root)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"status": status, "metrics": {}}))
    return folder


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("running", "is not completed: it was killed, or is still running on another machine."),
        ("interrupted", "is not completed but interrupted."),
    ],
)
def test_a_run_that_was_stopped_answers_by_its_best_weights_so_far(status: str, sentence: str, tmp_path: Path) -> None:
    folder = _stopped(tmp_path, status)
    before = (folder / "record.json").read_text()
    for command in ("evaluate", "predict"):
        ended = revisit(tmp_path, command)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        told = " ".join(ended.stdout.split())
        assert f"NOT FINAL: the run in {folder.relative_to(tmp_path)} {sentence}" in told
        assert "best weights so far, those after epoch" in told
    found = evaluation(tmp_path, "rk4")
    assert found["run_status"] == status
    assert found["training"]["metrics"]["test/accuracy"] == found["metrics"]["test/accuracy"], "measured, not recorded"
    for command, more in (("export", ("format=safetensors",)), ("audit", ())):
        refused = revisit(tmp_path, command, *more)
        assert refused.returncode == 2
        assert f"{sentence} Type its command to continue it." in refused.stderr
    run = ode.load(folder)
    assert "(not completed)" in repr(run)
    assert run.results == {}
    assert run.predict([[0.5, 0.25]]).shape == (1, 2)
    with pytest.raises(RefusedInput, match="is not completed"):
        run.export(tmp_path / "exported", format="safetensors")
    assert (folder / "record.json").read_text() == before


def test_a_run_that_goes_on_or_has_no_weights_yet_is_refused(tmp_path: Path) -> None:
    folder = _stopped(tmp_path, "running", "resnet")
    with lock(folder):
        assert "is not completed: another process is training it." in revisit(tmp_path, "evaluate").stderr
    record = folder / "record.json"
    running = record.read_text()
    record.write_text(running.replace('"running"', '"diverged"'))
    assert "is not completed but diverged. Type its command to continue it." in revisit(tmp_path, "evaluate").stderr
    record.write_text(running)
    (folder / "checkpoints" / "best.pt").unlink()
    assert "it was killed, or is still running on another machine." in revisit(tmp_path, "predict").stderr


def test_what_is_typed_replaces_what_was(tmp_path: Path) -> None:
    hydra = tmp_path / "run" / ".hydra"
    hydra.mkdir(parents=True)
    words = ["solver=rk4", "solver.num_steps=3", "task.noise=0.2", "rerun=true", "gradient=adjoint", "output_dir=x"]
    (hydra / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
    way = f"evaluate={tmp_path / 'run'}"
    last = "gradient=backprop"
    assert with_original_command(["-m", way]) == ["-m", "solver=rk4", "solver.num_steps=3", "task.noise=0.2", way, last]
    assert with_original_command([way, "solver=euler"]) == ["task.noise=0.2", way, "solver=euler", last]
    assert with_original_command([way, "solver.num_steps=5"]) == [
        "solver=rk4",
        "task.noise=0.2",
        way,
        "solver.num_steps=5",
        last,
    ]
    assert with_original_command(["task=digits", "seed=3"]) == ["task=digits", "seed=3"]
    with pytest.raises(RefusedInput, match="one at a time"):
        with_original_command([way, "predict=there"])


def test_an_option_that_leaves_the_test_data_alone_is_named_and_not_called_other_data(trained: dict[str, Path]) -> None:
    ended = revisit(trained["system"], "evaluate", "solver=euler", "task.window=3")
    assert "task.window (the run's: 5): other than in the run, on the same test data" in ended.stdout
    assert "other test data" not in ended.stdout


def test_answers_of_a_model_that_uses_no_solver_name_none(trained: dict[str, Path]) -> None:
    assert "solver=" not in revisit(trained["resnet"], "evaluate").stdout
    assert evaluation(trained["resnet"], "none")["solver"]["name"] == "-"
    assert "predictions/none-" in revisit(trained["resnet"], "predict").stdout


def test_all_columns_of_an_evaluation_are_of_one_test_split(trained: dict[str, Path]) -> None:
    folder = run_folder(trained["moons"])
    ended = typed(f"evaluate={folder}", "task.test=7", cwd=folder)
    assert "task.test: other test data than the run's" in ended.stdout
    found = json.loads(max(folder.rglob("evaluation.json"), key=lambda path: path.stat().st_mtime).read_text())
    assert found["training"]["metrics"]["test/loss"] == found["metrics"]["test/loss"]  # the solver is that of training
    assert found["metrics"]["test/loss"] != record_of(trained["moons"])["metrics"]["test/loss"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("command", "words", "why"),
    [
        ("evaluate", ("solver=rk4", "tolerance=1e-6"), "steps are fixed, and solver.num_steps says how many"),
        ("predict", ("solver=mccallum_foster", "solver.base.num_steps=7"), "the grid is the coupling's, by"),
        ("export", ("part=solve", "solver=rk4", "tolerance=1e-4"), "steps are fixed, and solver.num_steps says how"),
        ("export", ("part=field", "tolerance=1e-4"), "part=field holds no solve"),
    ],
)
def test_a_word_that_a_command_does_not_read_is_told(
    command: str, words: tuple[str, ...], why: str, trained: Any
) -> None:
    assert f"{words[-1]} is not used: {why}" in revisit(trained["moons"], command, *words).stdout


@pytest.mark.parametrize("word", ["optimizer.lr=0.5", "gradient=adjoint", "trainer.ema=0.9", "diagnostics=flow"])
def test_what_is_of_training_is_refused_where_nothing_is_trained(word: str, trained: Any) -> None:
    ended = revisit(trained["moons"], "evaluate", word)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"ode-run: {word} is of training, and evaluate= trains nothing. Leave it out.\n"


@pytest.mark.parametrize(("way", "solver"), [("evaluate", "leapfrog"), ("predict", "yoshida4")])
def test_advice_names_only_what_a_command_takes(way: str, solver: str, trained: Any) -> None:
    ended = revisit(trained["moons"], way, f"solver={solver}")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith("that of network=mlp is none. Use solver=rk4.\n")


def test_advice_without_alternatives_is_given_whole() -> None:
    assert either("model=cnf", "solver=rk4") == "model=cnf, or solver=rk4"
    with taken_as_they_are(["model"]):
        assert either("model.damping=false", "solver=rk4") == "solver=rk4"
        assert either("model=cnf", "model=glow") == "model=cnf, or model=glow"
    assert can_be_typed("model")


@pytest.mark.parametrize(
    ("command", "word", "read"),
    [
        ("replay", "optimizer.lr=3", False),
        ("replay", "trainer.batch_size=3", False),
        ("replay", "gradient=adjoint", True),
        ("audit", "trainer.max_steps=3", False),
        ("audit", "schedule=cosine", False),
        ("audit", "trainer.batch_size=3", True),
    ],
)
def test_commands_that_differentiate_take_no_other_options_of_training(
    command: str, word: str, read: bool, tmp_path: Path
) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("[solver=rk4]\n")
    refusal = nullcontext() if read else pytest.raises(RefusedInput, match=f"{command}= trains nothing. Leave it out")
    with refusal:
        assert "solver=rk4" in with_original_command([f"{command}={tmp_path}", word])


def test_an_audit_advises_other_gradient_modes_since_it_compares_them() -> None:
    """It read `Use .` if no solver of the run's field goes with a mode."""
    none = dict.fromkeys(COMMANDS)
    for command, fixed in (("audit", False), ("replay", False), ("evaluate", True)):
        assert ("gradient" in _of_run(OmegaConf.create({**none, command: "outputs/run"}))) is fixed
    for groups in (["gradient"], ["model"]):
        with taken_as_they_are(groups):
            assert ways(("solver", []), ("gradient", ["backprop"])) == "gradient=backprop"
