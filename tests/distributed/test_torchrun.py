"""Under torchrun, one of its processes is the run and the others help; so it ends as one, however it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ode_runner.distributed import torchrun
from ode_runner.distributed.ranks import Rank
from tests.distributed.test_distributed import EXACT, LONG, MET, assert_the_same, failing
from tests.helpers import TINY, latest, record_of, rows_of, run_folder, typed

RUN = ("solver=rk4", "trainer.epochs=2", "trainer.batch_size=7", *EXACT, "logger=tensorboard")


def environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun says to each of two processes."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Makes this process the first of two, and starts the other, in a folder of its own."""
    (tmp_path / "elsewhere").mkdir()
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        for name, value in environment(0, port).items():
            monkeypatch.setenv(name, value)
        process = subprocess.Popen(
            [sys.executable, "-m", "ode_runner"],
            cwd=tmp_path / "elsewhere",
            env={**os.environ, **environment(1, port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def under_torchrun(processes: int, *command: str, cwd: Path, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node=processes -m ode_runner command`."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("torchrun")), f"--nproc-per-node={processes}", *flags]
        + ["-m", "ode_runner", *latest(command)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said_by_us(stderr: str) -> list[str]:
    """Without what torchrun says; a traceback of ours would name our modules."""
    return [line for line in stderr.splitlines() if "ode-run:" in line or "/ode_runner/" in line]


@pytest.mark.slow
def test_two_processes_come_to_what_one_does(
    tmp_path: Path, helper: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    assert typed(*RUN, cwd=alone).returncode == 0
    other = helper()
    ended = typed(*RUN, cwd=together)
    assert ended.returncode == 0, ended.stderr
    assert other.communicate(timeout=30) == ("", None)
    assert other.returncode == 0
    assert not list((tmp_path / "elsewhere").iterdir()), "written by a helper"
    assert_one_and_the_same(alone, together)


def assert_one_and_the_same(alone: Path, together: Path) -> None:
    """The run of one process, and that of two."""
    one, two = run_folder(alone), run_folder(together)
    assert one.name == two.name
    assert_the_same(one, two, rel=1e-6)  # the accuracies are means in single precision
    first, second = record_of(alone), record_of(together)
    assert second["environment"]["processes"] == 2
    assert second["metrics"] == pytest.approx(first["metrics"], rel=1e-9)
    assert second["cost"]["ledger"] == first["cost"]["ledger"], "counted once"
    names = [{re.sub(r"[0-9.]{6,}.*", "", path.name) for path in folder.iterdir()} for folder in (one, two)]
    assert names[0] == names[1]
    assert len(list(two.glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_a_refusal_is_said_once_and_ends_all(tmp_path: Path) -> None:
    process = under_torchrun(2, "model=odnet", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, "torchrun's own"
    assert re.search(r"exitcode +: 2 ", err), "ours, in its report"
    assert err.startswith("ode-run: no model named 'odnet'."), err
    assert len(said_by_us(err)) == 1
    assert out == ""
    assert not list(tmp_path.iterdir())


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, without the trouble of another: for what ends before there is anything to share."""
    for name, value in environment(0, 0).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torchrun, "join_group", lambda rank, run: run())


@pytest.mark.usefixtures("first_of_two")
def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    ended = typed("processes=3", *TINY, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "processes=3, but torchrun has started 2." in ended.stderr


@pytest.mark.usefixtures("first_of_two")
@pytest.mark.parametrize("command", [("-m", "solver=rk4,euler"), ("grid=solvers",), ("search=digits",)])
def test_a_sweep_is_refused_with_what_to_type_instead(command: tuple[str, ...], tmp_path: Path) -> None:
    if command[0].startswith("search"):
        pytest.importorskip("optuna")
    ended = typed(*command, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"ode-run {' '.join(command)} processes=2" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_process_is_on_its_own_unless_torchrun_has_started_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Rank.of_this_process() is None
    for name, value in environment(1, 29500).items():
        monkeypatch.setenv(name, value)
    assert Rank.of_this_process() == Rank(1, 2, 1, 2)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert Rank.of_this_process() is None, "another launcher's variables, by names as plain as RANK"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Rank.of_this_process() is None


@pytest.mark.slow
def test_torchrun_itself(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    typed(*RUN, cwd=alone, pictures=True)
    process = under_torchrun(2, *RUN, cwd=together)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("completed in") == 1
    assert said_by_us(err) == []
    assert_one_and_the_same(alone, together)
    before = sorted(together.rglob("*")), record_of(together), rows_of(run_folder(together))
    process = under_torchrun(2, *RUN, cwd=together)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.count("already completed") == 1
    assert said_by_us(err) == []
    assert (sorted(together.rglob("*")), record_of(together), rows_of(run_folder(together))) == before


@pytest.mark.slow
@pytest.mark.parametrize("what", ["plan=true", "audit=true"])
def test_the_first_process_does_alone_what_needs_one(what: str, tmp_path: Path) -> None:
    process = under_torchrun(2, what, "solver=rk4", *TINY, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out
    assert len(set(out.splitlines())) == len(out.splitlines()), "said twice"


def ranks(process: subprocess.Popen[str]) -> dict[int, int]:
    """Process ids of what torchrun has started, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == process.pid:
            found |= {int(word[5:]): int(folder.name) for word in variables if word.startswith(b"RANK=")}
    return found


def under_way(processes: int, *command: str, cwd: Path, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Some way into its training."""
    process = under_torchrun(processes, *command, cwd=cwd, flags=flags)
    while process.poll() is None and not any(path.stat().st_size for path in cwd.rglob("metrics.jsonl")):
        time.sleep(0.05)
    return process


def assert_gone(pids: dict[int, int]) -> None:
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids.values()):
        assert time.monotonic() < deadline, "a process outlived its run"
        time.sleep(0.1)


@pytest.mark.slow
def test_ctrl_c_stops_the_run_which_resumes_with_any_number(tmp_path: Path) -> None:
    process = under_way(2, *LONG[1:], cwd=tmp_path)
    pids = ranks(process)
    process.send_signal(signal.SIGINT)  # torchrun's processes are in groups of their own, and get it from torchrun
    out, err = process.communicate(timeout=60)
    assert "interrupted: stopped by SIGINT; the same command resumes it" in out
    assert said_by_us(err) == []
    assert record_of(tmp_path)["status"] == "interrupted"
    assert_gone(pids)
    process = under_torchrun(3, *LONG[1:], "trainer.max_seconds=1", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    ended = typed(*LONG[1:], cwd=tmp_path)
    assert "resuming at step" in ended.stdout
    assert ended.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_run_ends_with_any_of_its_processes(victim: int, tmp_path: Path) -> None:
    process = under_way(2, *LONG[1:], cwd=tmp_path)
    pids = ranks(process)
    begun = time.monotonic()
    os.kill(pids[victim], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 20, "torchrun had to kill the others: it waits for 30 seconds"
    assert process.returncode == 1
    assert said_by_us(err) == []
    assert_gone(pids)
    record = record_of(tmp_path)
    if victim == 0:
        assert record["status"] == "running", "there was nobody left to say otherwise"
    else:
        assert record["status"] == "failed"
        assert "another process of the run has ended" in record["reason"]
        assert out.count("another process of the run has ended") == 1


@pytest.mark.slow
def test_torchrun_may_start_them_all_again(tmp_path: Path) -> None:
    command = (*LONG[1:], "trainer.save_every_seconds=0.1")
    process = under_way(2, *command, cwd=tmp_path, flags=("--max-restarts=1",))
    time.sleep(0.5)
    os.kill(ranks(process)[1], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "resuming at step" in out
    assert record_of(tmp_path)["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        *MET,
        ("os._exit(3)", "failed", "another process of the run has ended; torchrun says which one"),
    ],
)
def test_what_a_helper_meets_is_what_the_run_has_met(line: str, status: str, reason: str, tmp_path: Path) -> None:
    process = under_torchrun(3, *failing(line, tmp_path), cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said_by_us(err) == []
    assert out.count(reason) == 1
    record = record_of(tmp_path)
    assert (record["status"], reason in record["reason"]) == (status, True), record["reason"]
    if "not today" in reason:
        assert "failing.py" in (run_folder(tmp_path) / "error.txt").read_text(), "the helper's own traceback"


@pytest.mark.slow
def test_what_the_first_process_meets_in_a_step_ends_the_helpers(tmp_path: Path) -> None:
    command = failing('raise SolverFailed("the step has become too short.")', tmp_path)
    text = (tmp_path / "failing.py").read_text()
    (tmp_path / "failing.py").write_text(text.replace("dist.get_world_size() - 1", "0"))
    process = under_torchrun(2, *command, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said_by_us(err) == []
    assert "solver_failed: the step has become too short." in out
    assert json.loads((run_folder(tmp_path) / "record.json").read_text())["status"] == "solver_failed"


@pytest.mark.slow
def test_two_machines_on_one(tmp_path: Path) -> None:
    """Two torchruns that meet, in folders of their own: the first one's rank 0 is the run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for node in (0, 1):
        (tmp_path / str(node)).mkdir()
        flags = ("--nnodes=2", f"--node-rank={node}", "--master-addr=localhost", f"--master-port={port}")
        command = ("processes=2", "trainer.epochs=1", "logger=none", *TINY)
        processes.append(under_torchrun(1, *command, cwd=tmp_path / str(node), flags=flags))
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "completed in" in said[0]
    assert said[1] == ""
    assert record_of(tmp_path / "0")["environment"]["processes"] == 2
    assert not list((tmp_path / "1").iterdir())
