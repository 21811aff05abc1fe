"""record.json and its neighbours: what other people's scripts rely on, and what each way to end leaves behind."""

import json
import math
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ode_runner.batch import Batch
from ode_runner.errors import Diverged
from ode_runner.recording import own_warnings
from ode_runner.recording.display import Display, summary_rows
from ode_runner.recording.own_warnings import warnings_printed
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.status import status_of
from tests.helpers import TINY, Ended, before_step, own_models, record_of, rows_of, run_folder, typed

QUICK = ("trainer=quick", "trainer.max_steps=3", "trainer.log_every=1", "logger=none", *TINY)
KEYS = {"choices", "seed", "status", "reason", "metrics", "cost", "config", "environment", "started", "finished"}
COST = {"parameters", "train_seconds", "steps", "nfe_forward", "nfe_backward", "saved_bytes", "peak_memory_bytes"}
COST |= {"samples_per_second"}
ENVIRONMENT = {"python", "packages", "platform", "cpu", "threads", "device", "git_sha", "git_dirty"}
PER_STEP = {"train/loss", "train/accuracy", "nfe/forward", "nfe/backward", "solver/accepted", "solver/rejected"} | {
    "solver/smallest_step"
}
PER_STEP |= {"memory/saved_bytes", "memory/peak_bytes", "time/step_seconds", "time/samples_per_second"}
PER_STEP |= {"optim/lr", "optim/grad_norm"}
PER_EPOCH = {"eval/loss", "eval/accuracy", "nfe/eval"}
PLACE = {"step", "epoch", "wall_seconds"}


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a completed run was typed."""
    root = tmp_path_factory.mktemp("completed")
    assert typed(*QUICK, "seed=3", cwd=root).returncode == 0
    return root


def test_the_record_has_the_keys_that_scripts_rely_on(completed: Path) -> None:
    record = record_of(completed)
    assert record.keys() >= KEYS
    assert record["choices"] == {
        "task": "half_moons",
        "model": "odenet",
        "network": "mlp",
        "solver": "dopri5",
        "gradient": "backprop",
        "regularizer": "none",
    }
    assert (record["seed"], record["status"]) == (3, "completed")
    assert record["metrics"].keys() >= {"test/loss", "test/accuracy"}
    assert record["cost"].keys() >= COST
    assert record["environment"].keys() >= ENVIRONMENT
    assert torch.__version__.startswith(record["environment"]["packages"]["torch"])
    assert record["config"]["network"]["width"] == 4
    assert record["started"] <= record["finished"]


def test_the_folder_is_named_after_the_choices_the_seed_and_the_fingerprint(completed: Path) -> None:
    folder, record = run_folder(completed), record_of(completed)
    assert re.fullmatch(r"[0-9a-f]{6,}", record["fingerprint"])
    name = rf"odenet-dopri5-backprop(-\w+(=[\w.]+)?)*(-\+\d)?-s3-{record['fingerprint']}"
    assert re.fullmatch(rf"outputs/half_moons/{name}", folder.relative_to(completed).as_posix())


def test_the_folder_holds_everything_about_the_run(completed: Path) -> None:
    folder = run_folder(completed)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    expected = {"record.json", "metrics.jsonl", "config.yaml", ".hydra/config.yaml", "ode-run.log"}
    assert present >= expected | {"checkpoints/last.pt", "checkpoints/best.pt"}
    assert "error.txt" not in present
    assert not {name for name in present if name.endswith(".unfinished")}


def test_every_logged_step_has_every_scalar(completed: Path) -> None:
    steps = [row for row in rows_of(run_folder(completed)) if "train/loss" in row]
    epochs = [row for row in rows_of(run_folder(completed)) if "eval/loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert all(row.keys() == PLACE | PER_STEP for row in steps)
    assert [row.keys() for row in epochs] == [PLACE | PER_EPOCH]
    assert [row["wall_seconds"] for row in steps] == sorted(row["wall_seconds"] for row in steps)


def test_a_run_is_completed_in_its_wall_seconds_which_include_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ode_runner.training.train_and_test.draw", lambda *_, **__: time.sleep(0.6))
    ended = typed(*QUICK, cwd=tmp_path, pictures=True)
    seconds = record_of(tmp_path)["cost"]["wall_seconds"]
    assert seconds - rows_of(run_folder(tmp_path))[-1]["wall_seconds"] >= 0.6
    assert f"completed in {seconds:.0f} s" in ended.stdout


def test_a_model_without_solver_says_so(tmp_path: Path) -> None:
    ended = typed(*QUICK, "model=resnet", cwd=tmp_path)
    choices = record_of(tmp_path)["choices"]
    assert (choices["solver"], choices["gradient"]) == ("-", "-")
    assert run_folder(tmp_path).name.startswith("resnet-none-none-")
    assert ended.stdout.count("neither solver nor gradient") == 1
    assert "NFE" not in ended.stdout


def test_solver_and_bookkeeping_do_not_move_a_run_that_they_do_not_change(tmp_path: Path) -> None:
    typed(*QUICK, "model=resnet", cwd=tmp_path)
    again = typed(*QUICK, "model=resnet", "solver=euler", "gradient=adjoint", "plan=false", cwd=tmp_path)
    assert "already completed" in again.stdout
    run_folder(tmp_path)


@pytest.mark.slow
def test_a_different_value_is_a_different_folder(tmp_path: Path) -> None:
    folders = set()
    for more in ("seed=0", "seed=1", "solver.rtol=1e-4", "network.width=5", "trainer.max_steps=2"):
        typed(*QUICK, more, cwd=tmp_path)
        folders = {path.parent for path in tmp_path.rglob("record.json")}
    assert len(folders) == 5
    assert len({folder.name.split("-")[-1] for folder in folders}) == 4, "seeds share the fingerprint"


def test_a_torn_record_is_no_record(tmp_path: Path) -> None:
    record = RunRecord(choices={"regularizer": "none"}, seed=0, fingerprint="abc", status=RunStatus.COMPLETED)
    record.write(tmp_path)
    assert RunRecord.read(tmp_path) == record
    for content in ("", '{"choices": {}', "[]", '{"status": "completed"}', '{"status": "splendid"}', "null"):
        (tmp_path / "record.json").write_text(content)
        assert RunRecord.read(tmp_path) is None, content
    assert RunRecord.read(tmp_path / "nowhere") is None


MODELS = """
from ode_runner.models.base import Model, Numerics
from ode_runner.problem import Solution

class Mine(Model):
    numerics = Numerics.ANY
    calls = 0

    def __init__(self, network):
        super().__init__(network)
        self.field, self.head = network.field(), network.head()

    def evolve(self, y0, ts, integrate):
        self.calls += 1
        return Solution(ys=integrate(self.field, y0, ts).ys * (float("nan") if self.calls == 3 else 1))

class Overflowing(Mine):
    def evolve(self, y0, ts, integrate):
        return Solution(ys=integrate(self.field, y0, ts).ys * (1 if self.training else float("inf")))

class Mistaken(Mine):
    def evolve(self, y0, ts, integrate):
        raise KeyError("not there\\n(two lines)")

class Exploding(Mine):
    def evolve(self, y0, ts, integrate):
        return integrate(lambda t, y: y * float("nan"), y0, ts)

class Hungry(Mine):
    def evolve(self, y0, ts, integrate):
        return y0.y0.new_zeros(2**60)
"""


@pytest.fixture
def workshop(tmp_path: Path) -> Callable[..., Ended]:
    """`ode-run` with a choice of models that fail."""
    own_models(tmp_path, "failing_models", MODELS, "Mine", "Overflowing", "Mistaken", "Exploding", "Hungry")

    def run(*arguments: str) -> Ended:
        return typed(*arguments, "-cd", "conf", *QUICK, cwd=tmp_path)

    return run


def test_a_loss_that_is_nan_ends_as_diverged_and_names_the_step(workshop: Callable[..., Ended], tmp_path: Path) -> None:
    ended = workshop("model=mine", "trainer.device=cpu")  # it counts its calls: auto makes one to choose a device
    record = record_of(tmp_path)
    assert (ended.returncode, record["status"]) == (1, "diverged")
    assert "the loss is nan at step 3 (epoch 1)" in record["reason"]
    assert "optimizer.lr" in record["reason"]
    assert f"diverged: {record['reason']}" in ended.stdout
    assert record["cost"]["steps"] == 2
    assert not (run_folder(tmp_path) / "error.txt").exists()


def test_a_mistake_in_a_users_model_leaves_its_traceback_in_a_file(
    workshop: Callable[..., Ended], tmp_path: Path
) -> None:
    ended, record = workshop("model=mistaken"), record_of(tmp_path)
    assert (ended.returncode, record["status"]) == (1, "failed")
    assert "KeyError" in record["reason"]
    traceback = (run_folder(tmp_path) / "error.txt").read_text()
    assert "failing_models.py" in traceback
    assert traceback.startswith("Traceback")
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("failed: ")]
    assert str(Path("error.txt")) in line
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_field_that_is_nan_ends_as_solver_failed(workshop: Callable[..., Ended], tmp_path: Path) -> None:
    ended, record = workshop("model=exploding"), record_of(tmp_path)
    assert (ended.returncode, record["status"]) == (1, "solver_failed")
    assert re.search(r"t=0\b.*\|y\|=.*\|f\|=nan.*field returned NaN", record["reason"])


def test_more_memory_than_there_is_ends_as_out_of_memory(workshop: Callable[..., Ended], tmp_path: Path) -> None:
    ended, record = workshop("model=hungry"), record_of(tmp_path)
    assert (ended.returncode, record["status"]) == (1, "out_of_memory")
    assert "trainer.batch_size" in record["reason"]
    assert ended.stdout.count("\n") < 6


@pytest.mark.parametrize("gradient", ["backprop", "adjoint"])
def test_a_solver_that_does_not_arrive_names_time_state_and_slope(gradient: str, tmp_path: Path) -> None:
    ended = typed(
        *QUICK, "solver.max_steps=3", "solver.atol=1e-9", "solver.rtol=1e-9", f"gradient={gradient}", cwd=tmp_path
    )
    record = record_of(tmp_path)
    assert (ended.returncode, record["status"]) == (1, "solver_failed")
    for fragment in (r"t=0\.\d", r"\|y\|=\d", r"\|f\|=\d", r"last steps \d", r"solver\.max_steps=3"):
        assert re.search(fragment, record["reason"]), fragment
    assert "underflow" not in record["reason"]


def test_a_failed_run_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (*TINY, "trainer.epochs=2", "trainer.save_every_seconds=0", "logger=none")

    def fail() -> None:
        raise RuntimeError("a cosmic ray")

    with monkeypatch.context() as patched:
        before_step(patched, 4, fail)
        assert typed(*command, cwd=tmp_path).returncode == 1
    assert (run_folder(tmp_path) / "error.txt").is_file()
    assert "resuming at step 3 of 6" in typed(*command, cwd=tmp_path).stdout
    assert record_of(tmp_path)["status"] == "completed"
    assert record_of(tmp_path)["reason"] == ""
    assert not (run_folder(tmp_path) / "error.txt").exists(), "of a session that is overcome"


def test_a_loss_that_is_not_finite_in_evaluation_only_is_null_in_the_files(
    workshop: Callable[..., Ended], tmp_path: Path
) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    ended = workshop("model=overflowing")
    assert ended.returncode == 1
    assert (
        "the loss on the test split is nan: solver=dopri5 diverges on the way. Try a smaller tolerance" in ended.stdout
    )
    folder = run_folder(tmp_path)
    rows = [json.loads(line, parse_constant=refuse) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["eval/loss"] for row in rows if "eval/loss" in row] == [None]
    record = json.loads((folder / "record.json").read_text(), parse_constant=refuse)
    assert record["status"] == "solver_failed"
    assert record["metrics"]["test/loss"] is None


def test_warnings_of_this_program_are_told_and_those_of_others_shown_as_they_were() -> None:
    printed: list[str] = []
    with warnings.catch_warnings(record=True) as shown, warnings_printed(printed.append):
        warnings.simplefilter("always")
        for place in (own_warnings.PACKAGE / "field.py", own_warnings.PACKAGE / "field.py", Path("elsewhere.py")):
            warnings.warn_explicit(f"from {place.name}", UserWarning, str(place), 1)
    assert (printed, [str(one.message) for one in shown]) == (["from field.py"], ["from elsewhere.py"])


def test_memory_that_is_at_its_end_says_so_however_it_is_told() -> None:
    for error in (
        MemoryError(),
        RuntimeError("[enforce fail at alloc.cpp:1] DefaultCPUAllocator: can't allocate memory"),
    ):
        status, reason = status_of(error)
        assert status is RunStatus.OUT_OF_MEMORY
        assert reason.endswith("Try a smaller trainer.batch_size or network.width.")
    assert status_of(MemoryError())[1].startswith("no memory is left. ")
    assert status_of(KeyError()) == (RunStatus.FAILED, "KeyError: KeyError")


@pytest.mark.parametrize(
    ("target", "observed", "said"),
    [
        (1.0, None, "Try a smaller optimizer.lr"),
        (math.nan, None, "Targets of this batch are NaN or infinite."),
        (math.nan, [[True, False]], "Try a smaller optimizer.lr"),
    ],
)
def test_a_loss_of_targets_that_are_not_numbers_is_not_blamed_on_the_step(
    target: float, observed: list[list[bool]] | None, said: str
) -> None:
    failure = Diverged("the loss is nan at step 1.")
    known = None if observed is None else torch.tensor(observed)
    batch = Batch(torch.zeros(1, 2), torch.zeros(1), torch.tensor([[0.0, target]]), observed=known)
    failure.crash_dump = SimpleNamespace(batch=batch)
    assert status_of(failure)[1].startswith(f"the loss is nan at step 1. {said}")


def test_a_tensor_that_is_kept_from_step_to_step_is_told() -> None:
    x = torch.ones(1, requires_grad=True).exp()
    x.sum().backward(retain_graph=False)
    with pytest.raises(RuntimeError) as twice:
        (2 * x).sum().backward()
    assert "keeps a tensor of an earlier step in an attribute" in status_of(twice.value)[1]


def test_the_speed_of_a_single_step_is_not_known(tmp_path: Path) -> None:
    ended = typed("trainer.max_steps=1", "logger=none", "pictures=false", *TINY, cwd=tmp_path)
    cost = record_of(tmp_path)["cost"]
    assert "a single step, which is not timed" in ended.stdout
    assert cost["train_seconds"] == 0.0
    assert "samples_per_second" not in cost


def test_one_parameter_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = {"device": "cpu", "threads": 1, "processes": 1}
    record = RunRecord(choices={}, seed=0, fingerprint="", status=RunStatus.RUNNING, environment=place)
    Display().header(record, tmp_path, parameters=1, precision="fp64", sizes="1 train")
    assert "1 parameter · cpu, 1 thread" in capsys.readouterr().out


def test_the_summary_of_a_run_says_what_its_record_has() -> None:
    cost = {"parameters": 5, "steps": 3, "best_epoch": 2, "nfe_forward": 14.0, "nfe_backward": 7.0, "saved_bytes": 2500}
    cost |= {"peak_memory_bytes": 3e9, "train_seconds": 1.5, "samples_per_second": 1234.0}
    record = RunRecord(
        choices={"solver": "rk4"}, seed=0, fingerprint="", status=RunStatus.COMPLETED,
        metrics={"test/loss": 0.25, "eval/loss": 0.5, "nfe/eval": 12.0, "nfe/sample": 20.0}, cost=cost,
    )  # fmt: skip
    best = [("test loss", "0.25"), ("best epoch", "2 (chosen on validation)")]
    steps = [("NFE per step", "14.0 forward, 7.0 backward"), ("NFE of samples", "20 a batch")]
    saved, speed = ("saved for backward", "2.5 kB per step; peak memory 3 GB"), ("training", "1.5 s, 1,234 samples/s")
    assert summary_rows(record) == [*best, *steps, saved, speed]
    del cost["saved_bytes"]
    cost |= {"gradient_error": 2e-7, "chosen_on": "the training data"}
    error = ("gradient", "off by 2.0e-07 on average, against double precision")
    assert summary_rows(record)[1:] == [
        ("best epoch", "2 (chosen on the training data)"),
        *steps,
        ("peak memory", "3 GB"),
        error,
        speed,
    ]
    cost["train_seconds"] = 0.0
    assert summary_rows(record)[-1] == ("training", "a single step, which is not timed")  # no 0 samples/s
    record.cost = {"parameters": 0, "peak_memory_bytes": 2e6}
    assert summary_rows(record) == [best[0], ("NFE", "20 sample"), ("peak memory", "2 MB")]
    record.choices["solver"] = "-"
    assert summary_rows(record) == [best[0], ("peak memory", "2 MB")]
