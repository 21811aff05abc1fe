"""A run over several processes is the run of one: same losses, one set of files, and it ends as one."""

import contextlib
import json
import os
import signal
import subprocess
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from ode_runner.batch import Batch
from ode_runner.distributed.data_parallel import DataParallel
from ode_runner.distributed.workers import check_room_for_processes
from ode_runner.errors import RefusedInput
from tests.helpers import TINY, options, own_models, record_of, rows_of, run_folder, started, typed

EXACT = ("trainer.precision=fp64", "trainer.log_every=1", "logger=none", *TINY)
COMPARED = ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "optim/grad_norm", "nfe/forward")
NUMERICS = {  # of each gradient mode, with steps that do not depend on the batch wherever it takes such a solver
    "reversible": ("solver=alf",),
    "seminorm": ("solver=dopri5", "tolerance=1e-9"),
    "forward": ("solver=rk4", "gradient.max_directions=4096"),
}
FAILING = """
import os
import torch.distributed as dist
from ode_runner.errors import SolverFailed
from ode_runner.models.depth.odenet import ODENet

class Fails(ODENet):
    def evolve(self, y0, ts, integrate):
        if dist.is_initialized() and dist.get_rank() == dist.get_world_size() - 1:
            {}
        return super().evolve(y0, ts, integrate)
"""


def both(tmp_path: Path, *command: str) -> tuple[Path, Path]:
    """The folders of the run by one process and of the run by two."""
    folders = []
    for processes in ("1", "2"):
        root = tmp_path / processes
        root.mkdir()
        ended = typed(f"processes={processes}", "oversubscribe=true", "trainer.device=cpu", *command, cwd=root)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        folders.append(run_folder(root))
    return folders[0], folders[1]


def assert_the_same(one: Path, two: Path, *, rel: float) -> None:
    rows = list(zip(rows_of(one), rows_of(two), strict=True))
    assert rows
    for first, second in rows:
        for name in set(COMPARED) & set(first):
            assert second[name] == pytest.approx(first[name], rel=rel), name


@pytest.mark.slow
def test_two_processes_come_to_what_one_does(tmp_path: Path) -> None:
    one, two = both(tmp_path, "solver=rk4", "trainer.epochs=2", "trainer.batch_size=7", *EXACT)  # the last batch has 4
    assert_the_same(one, two, rel=1e-6)  # the accuracies are means in single precision
    assert one.name == two.name, "how many work on it is no part of what is computed"
    first, second = (json.loads((folder / "record.json").read_text()) for folder in (one, two))
    assert second["environment"]["processes"] == 2
    assert second["metrics"] == pytest.approx(first["metrics"], rel=1e-9)
    assert second["cost"]["ledger"] == first["cost"]["ledger"], "counted once"
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("gradient", options("gradient"))
def test_every_gradient_mode_trains_alike_on_two(gradient: str, tmp_path: Path) -> None:
    numerics = NUMERICS.get(gradient, ("solver=rk4",))
    one, two = both(tmp_path, f"gradient={gradient}", *numerics, "trainer.epochs=1", *EXACT)
    # Seminorm's adaptive steps are controlled by a norm over the batch of each process: alike to the tolerance.
    assert_the_same(one, two, rel=1e-4 if gradient == "seminorm" else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["lotka_volterra", "spiral_vae"])
def test_trajectories_are_shared_out_too(task: str, tmp_path: Path) -> None:
    tiny = ("task.train=4", "task.validation=4", "task.test=4", "trainer.batch_size=3", "trainer.max_steps=4")
    one, two = both(tmp_path, f"task={task}", "solver=rk4", *tiny, *EXACT[:3])
    if task == "lotka_volterra":  # a random beginning is drawn by each process for itself
        assert_the_same(one, two, rel=1e-6)


@pytest.mark.slow
def test_adaptive_steps_differ_by_no_more_than_the_tolerance(tmp_path: Path) -> None:
    one, two = both(tmp_path, "tolerance=1e-6", "trainer.epochs=1", *EXACT)
    for first, second in zip(rows_of(one), rows_of(two), strict=True):
        if "train/loss" in first:
            assert second["train/loss"] == pytest.approx(first["train/loss"], rel=1e-4)  # some steps along


def test_a_batch_is_shared_out_without_loss_or_repetition() -> None:
    batch = Batch(torch.arange(5.0)[:, None], torch.zeros(2), torch.arange(10.0).reshape(2, 5), torch.ones(2, 5) > 0)
    crew = [DataParallel(size=3, rank=rank, every_time=True) for rank in range(3)]
    shares = [member.share(batch, epoch=0, place=0) for member in crew]
    assert sorted(torch.cat([share.inputs for share in shares]).flatten().tolist()) == [0, 1, 2, 3, 4]
    for share in shares:
        assert torch.equal(share.targets[0], share.inputs[:, 0])
        assert share.observed is not None
        assert share.observed.shape == share.targets.shape
    assert sum(member.weight for member in crew) == pytest.approx(1)
    few = Batch(torch.ones(1, 2), torch.zeros(2), torch.zeros(1))
    crew = [DataParallel(size=3, rank=rank, every_time=False) for rank in range(3)]
    assert [len(member.share(few, epoch=0, place=0).inputs) for member in crew] == [1, 1, 1]
    assert [member.weight for member in crew] == [1, 0, 0], "whoever has no sample of its own does not count"


@pytest.mark.parametrize("processes", ["0", "1.5", "true"])
def test_a_number_of_processes_that_is_none_is_refused(processes: str, tmp_path: Path) -> None:
    ended = typed(f"processes={processes}", cwd=tmp_path)
    assert ended.returncode == 2
    assert "no whole number from 1 on" in ended.stderr


def test_more_processes_than_cores_are_refused_before_one_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ode_runner.distributed.workers.cores", lambda: 2)
    monkeypatch.setattr(BaseProcess, "start", lambda self: pytest.fail("a process was started"))
    for processes in (3, 100_000, 10**30):
        ended = typed(f"processes={processes}", "trainer.device=cpu", *TINY, cwd=tmp_path)
        said = f"ode-run: processes={processes}, but there are 2 cores. Use fewer, or insist with oversubscribe=true.\n"
        assert (ended.returncode, ended.stderr) == (2, said)
        assert not list(tmp_path.iterdir())
    ended = typed("processes=3", "oversubscribe=perhaps", *TINY, cwd=tmp_path)
    assert (ended.returncode, "oversubscribe=perhaps is neither true nor false." in ended.stderr) == (2, True)


@pytest.mark.parametrize(("device", "gpus", "fine"), [("cuda", 2, False), ("cuda", 3, True), ("mps", 0, False)])
def test_each_process_needs_a_gpu_whoever_insists(
    device: str, gpus: int, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with contextlib.nullcontext() if fine else pytest.raises(RefusedInput, match="processes=3, but "):
        check_room_for_processes(3, torch.device(device), oversubscribe=True)


def under_way(cwd: Path, *command: str) -> subprocess.Popen[str]:
    """The program in a process group of its own, some way into its training."""
    process = started(*command, cwd=cwd, own_group=True)
    while process.poll() is None and not any(path.stat().st_size for path in cwd.rglob("metrics.jsonl")):
        time.sleep(0.05)
    return process


def helpers_of(process: subprocess.Popen[str]) -> list[int]:
    """Its child processes that run Python's spawn."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process.pid and b"spawn_main" in line:
            found.append(int(folder.name))
    return found


LONG = ("processes=2", "oversubscribe=true", "trainer.epochs=60", "logger=none", "trainer.log_every=1", *TINY)


@pytest.mark.slow
def test_an_interrupted_run_of_two_resumes_to_the_same(tmp_path: Path) -> None:
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    disturbed.mkdir()
    undisturbed.mkdir()
    process = under_way(disturbed, *LONG)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted: stopped by SIGINT" in said
    assert "Traceback" not in said
    assert record_of(disturbed)["status"] == "interrupted"
    assert "resuming at step" in typed(*LONG, cwd=disturbed).stdout
    typed(*LONG, cwd=undisturbed)
    first, second = record_of(disturbed), record_of(undisturbed)
    assert first["metrics"] == second["metrics"]
    assert first["cost"]["ledger"] == second["cost"]["ledger"]


@pytest.mark.slow
def test_the_run_ends_with_any_of_its_processes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    process = under_way(first, *LONG)
    [helper] = helpers_of(process)
    os.kill(helper, signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    record = record_of(first)
    assert record["status"] == "failed"
    assert "process 1 of the run ended with exit code -9" in record["reason"]
    process = under_way(second, *LONG)
    [helper] = helpers_of(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{helper}").exists():
        assert time.monotonic() < deadline, "a helper outlived its run"
        time.sleep(0.1)


@pytest.mark.slow
def test_helpers_that_still_begin_end_with_their_parent(tmp_path: Path) -> None:
    """Whenever it is killed after it has started them: most of the time they import torch."""
    for wait in (0, 0.1, 0.5, 1.5):
        root = tmp_path / str(wait)
        root.mkdir()
        process = started(*LONG, cwd=root, heard=False, own_group=True)
        while not (helpers := helpers_of(process)):
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(wait)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{helper}").exists() for helper in helpers):
            assert time.monotonic() < deadline, f"a helper outlived its run, which was killed {wait} s after its start"
            time.sleep(0.02)


def failing(line: str, cwd: Path) -> list[str]:
    """A run whose last process, if there are several, comes to `line`."""
    own_models(cwd, "failing", FAILING.format(line), "Fails")
    return ["-cd", "conf", "model=fails", "trainer=quick", "logger=none", *TINY]


MET = [  # a line, and the status and reason of a run one of whose helpers comes to it
    ('raise SolverFailed("the step has become too short.")', "solver_failed", "the step has become too short."),
    ('raise RuntimeError("not today")', "failed", "RuntimeError: not today"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        *MET,
        ("os._exit(3)", "failed", "process 1 of the run ended with exit code 3"),
    ],
)
def test_what_a_helper_meets_is_what_the_run_has_met(line: str, status: str, reason: str, tmp_path: Path) -> None:
    ended = typed("processes=2", "oversubscribe=true", *failing(line, tmp_path), cwd=tmp_path)
    assert ended.returncode == 1
    record = record_of(tmp_path)
    assert (record["status"], reason in record["reason"]) == (status, True), record["reason"]
    if status == "failed" and "exit code" not in reason:
        assert "failing.py" in (run_folder(tmp_path) / "error.txt").read_text(), "the helper's own traceback"


@pytest.mark.slow
def test_of_several_helpers_the_one_at_fault_is_named(tmp_path: Path) -> None:
    typed("processes=3", "oversubscribe=true", *failing("os._exit(3)", tmp_path), cwd=tmp_path)
    assert "process 2 of the run ended with exit code 3" in record_of(tmp_path)["reason"]
