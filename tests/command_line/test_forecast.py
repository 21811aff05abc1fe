"""plan=true tells what would be run and starts nothing."""

import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from ode_runner.building.members import members
from ode_runner.recording.clock import clock
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.sweeps.cost_estimate import Amount, RunTimes
from ode_runner.training.trainer import Trainer
from tests.helpers import TINY, options, run_folder, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
SWEEP = ("-m", "model=resnet,rknet,odenet,exact", "solver=euler,dopri5", *QUICK)


def lines(stdout: str) -> dict[str, list[str]]:
    """The cells by what is said of them."""
    found: dict[str, list[str]] = {}
    for line in stdout.splitlines():
        said = re.match(r"(will run|resume|done|same run|incompatible|refused|left out)  +(\S.*)", line)
        if said:
            found.setdefault(said[1], []).append(said[2])
    return found


def test_a_sweep_is_planned_cell_by_cell_and_nothing_is_left_behind(tmp_path: Path) -> None:
    ended = typed(*SWEEP, "plan=true", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
    planned = lines(ended.stdout)
    assert {error_ratio: len(cells) for error_ratio, cells in planned.items()} == {
        "will run": 4,
        "same run": 1,
        "incompatible": 3,
    }
    assert planned["same run"] == ["model=resnet solver=dopri5  as model=resnet solver=euler"]
    assert "model=rknet takes a fixed-step explicit Runge-Kutta solver" in planned["incompatible"][0]
    assert "model=exact needs a task whose true field or density is known" in planned["incompatible"][1], (
        "known once it is built"
    )
    assert all("time unknown" in cell for cell in planned["will run"])
    assert "4 will run, 1 same run, 3 incompatible" in ended.stdout


@pytest.mark.slow
def test_a_plan_foresees_what_each_cell_would_be_refused_for(tmp_path: Path) -> None:
    """By its own field and at its own first step, not by those of the first cell of its task and model."""
    sweep = ("-m", "solver=euler,leapfrog", "gradient=backprop,forward", *QUICK, "network.width=16")
    planned = lines(typed(*sweep, "seed=0,1", "plan=true", cwd=tmp_path).stdout)
    ended = typed(*sweep, cwd=tmp_path)
    assert len(planned["will run"]) == 2, "one for each seed"
    told = [cell.partition("  ")[2].strip() for cell in planned["incompatible"]]
    skipped = re.findall("^ode-run: skipped: (.*)$", ended.stderr, re.MULTILINE)
    assert sorted(told) == sorted(2 * skipped)
    assert [text.partition(" ")[0] for text in sorted(skipped)] == 2 * ["gradient=forward"] + ["solver=leapfrog"]
    assert "1 completed · 3 incompatible" in ended.stdout


def drawn(rng: random.Random) -> list[str]:
    """A cell of random choices, of a model that answers the task, with few data."""
    tasks, models = (members(group) for group in ("task", "model"))
    pairs = [(task, model) for task in CHEAP for model in models if tasks[task].needs <= models[model].answers()]
    words = [f"{group}={name}" for group, name in zip(("task", "model"), rng.choice(pairs), strict=True)]
    for group, share in {
        "solver": 0.3,
        "gradient": 0.25,
        "regularizer": 0.2,
        "network": 0.05,
        "optimizer": 0.1,
    }.items():
        words += [f"{group}={rng.choice(options(group))}"] if rng.random() < share else []
    for word in ("trainer.compile=on", "trainer.patience=2", "trainer.accumulate=2", "trainer.precision=bf16"):
        words += [word] if rng.random() < 0.1 else []
    sizes = [f"task.{split}={count}" for split, count in (("train", 12), ("validation", 6), ("test", 6))]
    return [*words, *sizes, "network.width=8", "trainer.max_steps=2", "trainer.batch_size=6", "logger=none"]


CHEAP = ("half_moons", "lotka_volterra", "density2d", "tiny_table", "area", "ou", "sequence_sort")


@pytest.mark.slow
def test_a_plan_refuses_what_two_steps_would_refuse(tmp_path: Path) -> None:
    rng, verdicts = random.Random(0), Counter[bool]()
    for _ in range(24):
        words = drawn(rng)
        planned, ended = (typed(*words, *more, cwd=tmp_path) for more in (["plan=true"], []))
        assert (planned.returncode == 2) == (ended.returncode == 2), (words, planned, ended)
        said = ended.stderr.removeprefix("ode-run: ").strip()
        assert ended.returncode != 2 or said in " ".join(planned.stdout.split()) + planned.stderr, words
        verdicts[ended.returncode == 2] += 1
    assert min(verdicts[True], verdicts[False]) >= 3


def test_a_plan_says_of_faulty_code_that_it_would_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "train_step", lambda *positional, **named: 1 / 0)
    planned = typed(*QUICK, "plan=true", cwd=tmp_path)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "would fail: ZeroDivisionError: division by zero" in planned.stdout


@pytest.mark.slow
def test_a_plan_knows_what_is_on_disk_and_leaves_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("-m", "seed=0,1,2", "sweep=mine", *QUICK)
    typed("-m", "seed=0", *command[2:], cwd=tmp_path)
    with monkeypatch.context() as failing:
        failing.setattr(Trainer, "train_step", lambda *positional, **named: 1 / 0)
        typed("-m", "seed=1", *command[2:], cwd=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    planned = typed(*command, "plan=true", cwd=tmp_path)
    assert planned.returncode == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    cells = lines(planned.stdout)
    assert len(cells["done"]) == 1
    failed, fresh = cells["will run"]
    assert "was failed: ZeroDivisionError" in failed
    assert fresh.startswith("seed=2 ")
    assert len(lines(typed(*command, "rerun=failed", "plan=true", cwd=tmp_path).stdout)["left out"]) == 1
    assert len(lines(typed(*command, "rerun=all", "plan=true", cwd=tmp_path).stdout)["will run"]) == 3


def as_if_it_took(folder: Path, *, start: float, step: float, epoch: float, end: float) -> None:
    """Leave a run as if its beginning, each further step, the rest of each epoch, and its end had taken so long."""
    path, metrics = folder / "record.json", folder / "metrics.jsonl"
    record = json.loads(path.read_text())
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = record["cost"]["steps"]
    samples = record["cost"]["samples_per_second"] * record["cost"]["train_seconds"]
    rows[0]["wall_seconds"] = start
    rows[-1]["wall_seconds"] = start + (steps - 1) * step + math.ceil(rows[-1]["epoch"]) * epoch
    times = {"train_seconds": (steps - 1) * step, "samples_per_second": samples / ((steps - 1) * step)}
    record["cost"] |= {"wall_seconds": rows[-1]["wall_seconds"] + end, **times}
    metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    path.write_text(json.dumps(record))


def test_time_is_foretold_from_runs_of_the_same_task_and_model(tmp_path: Path) -> None:
    typed(*QUICK, "solver=rk4", "solver.num_steps=2", cwd=tmp_path)  # 2 steps of 20 samples and 8 evaluations
    as_if_it_took(run_folder(tmp_path), start=60.0, step=2.0, epoch=10.0, end=240.0)
    longer = ("trainer.max_steps=null", "trainer.epochs=4", "plan=true")  # 4 epochs of 3 steps
    for words, seconds, why in (
        (("solver.num_steps=2",), 60 + 12 * 2 + 4 * 10 + 240, "costs of once are not those of a step"),
        (("solver.num_steps=4",), 60 + 2 * (12 * 2 + 4 * 10) + 240, "twice as many evaluations"),
        (("solver.num_steps=2", "trainer.batch_size=10"), 60 + 24 * 1 + 4 * 10 + 240, "more steps of less"),
        (("solver.num_steps=2", "trainer.max_steps=2"), 60 + 2 * 2 + 10 + 240, "the same again"),
        (("solver.num_steps=2", "trainer.max_seconds=90"), 90 + 240, "a budget is for training only"),
    ):
        told = typed(*QUICK, *longer, "solver=rk4", *words, cwd=tmp_path).stdout
        assert f"52 parameters  about {clock(seconds)}" in told, why
        assert "outputs/half_moons/odenet-rk4-backprop-" in told, "where it belongs without plan=true"
    other = typed(*QUICK, *longer, "solver=euler", "solver.num_steps=8", cwd=tmp_path).stdout
    assert f"roughly {clock(60 + 12 * 2 + 4 * 10 + 240)}" in other, "in want of a better one, of as many evaluations"
    assert "roughly: estimated from runs of this task and model with other options\n" in other
    wider = typed(*QUICK, *longer, "solver=rk4", "solver.num_steps=2", "network.width=8", cwd=tmp_path).stdout
    assert f"roughly {clock(60 + 12 * 2 + 4 * 10 + 240)}" in wider, "an evaluation of it takes another time"
    assert "time unknown" in typed(*QUICK, *longer, "model=resnet", cwd=tmp_path).stdout


def test_a_record_alone_tells_as_much_as_it_can(tmp_path: Path) -> None:
    record = RunRecord(choices={}, seed=0, fingerprint="", status=RunStatus.COMPLETED)
    assert RunTimes.of(record, tmp_path) is None
    record.cost = {"wall_seconds": 30.0}
    untrained = RunTimes.of(record, tmp_path)
    assert untrained is not None
    assert untrained.seconds_for(Amount(steps=0, epochs=0, samples=0, most_seconds=math.inf), 1.0) == 30.0
    record.cost |= {"steps": 11, "train_seconds": 20.0, "samples_per_second": 5.0}
    twice = Amount(steps=20, epochs=2, samples=10, most_seconds=math.inf)
    for content in (None, "", "torn", "[1]\n", '{"wall_seconds": "x"}\n'):
        if content is not None:
            (tmp_path / "metrics.jsonl").write_text(content)
        spent = RunTimes.of(record, tmp_path)
        assert spent is not None
        assert spent.seconds_for(twice, 1.0) == pytest.approx(20 * 2.0 + 2 * 10.0), "all that is no step is of an epoch"


@pytest.mark.parametrize(
    ("words", "says"),
    [("plan=maybe", "plan=maybe is neither true nor false"), ("network.width=0", "network.width must be at least 1")],
)
def test_a_plan_of_what_is_impossible_says_so(words: str, says: str, tmp_path: Path) -> None:
    ended = typed("plan=true", *QUICK, words, cwd=tmp_path)
    assert ended.returncode == 2
    assert says in ended.stdout + ended.stderr
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_is_planned_to_be_resumed(tmp_path: Path) -> None:
    typed(*QUICK, cwd=tmp_path)
    path = run_folder(tmp_path) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    [cell] = lines(typed(*QUICK, "plan=true", cwd=tmp_path).stdout)["resume"]
    assert cell.endswith("was broken off")
