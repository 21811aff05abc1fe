"""What the processes of a run say to each other, with a trainer that has two weights and learns nothing.

All processes are forked here, which imports nothing anew, the main one too: test_distributed and test_torchrun start
them as a run does.
"""

import json
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ode_runner.batch import Batch, Split
from ode_runner.distributed import child_process, spawned, torchrun
from ode_runner.distributed.data_parallel import Job, MainProcess, WorkerPool, build_worker
from ode_runner.distributed.process_group import ProcessGroup
from ode_runner.distributed.ranks import Rank
from ode_runner.distributed.rendezvous import PeerLost
from ode_runner.distributed.spawned import SpawnedPool
from ode_runner.distributed.torchrun import TorchrunPool
from ode_runner.errors import Interrupted, RefusedInput, SolverFailed

if sys.platform != "linux":
    pytest.skip("forks processes", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
CPU = torch.device("cpu")
FORK = get_context("fork")
PATIENCE = timedelta(seconds=20)  # for what takes a few milliseconds
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
STATE = {"step": 5, "weight": torch.tensor([1.0, 2.0])}


class Rows:
    """The task: in the epoch `e` the numbers 10 e, ..., 10 e + 6, in batches of three, three and one."""

    epochs_begun = 0

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        assert split is Split.TRAIN
        self.epochs_begun += 1
        for rows in (10.0 * epoch + torch.arange(7.0)).split(batch_size):
            yield Batch(rows[:, None], torch.zeros(2), rows)


class Noting:
    """A trainer that notes in a file what it was given, and comes to `event` in each step."""

    def __init__(self, notes: Path, event: Callable[[], object] | None, group: ProcessGroup) -> None:
        torch.manual_seed(7)
        self.notes, self.event, self.group = notes, event, group
        self.task, self.options = Rows(), SimpleNamespace(batch_size=3)
        self.step, self.device, self.weight = 0, CPU, torch.zeros(2)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.weight = state["step"], state["weight"]

    def train_step(self, batch: Batch, *, measure_memory: bool) -> dict[str, Any]:
        if self.event is not None:
            self.event()
        note = {"step": self.step, "seed": torch.initial_seed(), "batch": batch.inputs.flatten().tolist()}
        note["begun"] = self.task.epochs_begun
        found = make_step(self, self.group, batch, (-1, -1))
        with self.notes.open("a") as file:
            file.write(json.dumps(note | found | {"memory": measure_memory}) + "\n")
        return {}


def make_step(trainer: Noting, group: ProcessGroup, batch: Batch, position: tuple[int, int]) -> dict[str, Any]:
    """A process's share of a batch, and the mean and the gradient of all: rows x have the gradient x w."""
    share = group.share(batch, epoch=position[0], place=position[1]).inputs
    trainer.weight.grad = share.mean() * trainer.weight
    group.average_gradients([trainer.weight])
    means = group.mean({"x": float(share.mean())})
    return {"share": share.flatten().tolist(), "gradient": trainer.weight.grad.tolist(), "mean": means["x"]}


class Run:
    """The main process of a run whose workers come to `event` in each step."""

    def __init__(self, pool: WorkerPool, notes: Path, event: Callable[[], object] | None = None) -> None:
        self.notes = notes
        self.group = MainProcess(pool, device=CPU, every_time=False, build_trainer=partial(Noting, notes, event))
        self.trainer = Noting(notes, None, self.group)
        self.trainer.load_state_dict(STATE)

    def steps(self, *positions: tuple[int, int]) -> list[dict[str, Any]]:
        """Steps at these epochs and numbers of batches."""
        found = []
        for epoch, place in positions:
            batch = list(self.trainer.task.batches(Split.TRAIN, batch_size=3, epoch=epoch))[place]
            found.append(make_step(self.trainer, self.group, batch, (epoch, place)))
        return found

    def noted(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.notes.read_text().splitlines()]


def send_to_itself(*signals: signal.Signals) -> None:
    for number in signals:
        os.kill(os.getpid(), number)


def apart(work: Callable[[], object]) -> None:
    """Call `work` in a process of its own: threads that communication leaves behind would disturb the next fork."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_call, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(2 * PATIENCE.total_seconds()), "hangs"
        if said := ours.recv():
            pytest.fail(said)
    finally:
        process.kill()
        process.join()


def _call(work: Callable[[], object], pipe: Connection) -> None:
    said = ""
    try:
        work()
    except BaseException:
        said = traceback.format_exc()
    pipe.send(said)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers of SpawnedPool by a fork, and no wait of a day if one of them hangs."""
    monkeypatch.setattr(spawned, "get_context", lambda method: FORK)
    monkeypatch.setattr(spawned, "TIMEOUT", PATIENCE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("forked")
def test_a_worker_makes_the_steps_of_the_main_process(tmp_path: Path) -> None:
    """From a later epoch on, batches in turn, one within another epoch, and one that is too small to share."""

    def work() -> None:
        pool = SpawnedPool(size=2)
        run = Run(pool, tmp_path / "notes")
        with run.group.training(STATE):
            [(process, _)] = pool.processes
            assert len(list(tmp_path.glob("ode-run-*"))) == 1
            found = run.steps((1, 0), (1, 1), (3, 1), (3, 2))
        assert not process.is_alive()
        assert (pool.processes, dist.is_initialized()) == ([], False)
        assert list(tmp_path.glob("ode-run-*")) == [], "the folder of the rendezvous"
        noted = run.noted()
        assert [note["step"] for note in noted] == [5, 6, 7, 8], "the run's, from its state on"
        assert [note["seed"] for note in noted] == [(7 << 32) + (1 << 24) + step for step in (5, 6, 7, 8)]
        assert [note["batch"] for note in noted] == [[10, 11, 12], [13, 14, 15], [33, 34, 35], [36]]
        assert [note["begun"] for note in noted] == [1, 1, 2, 2], "an epoch is not gone through anew for each batch"
        assert [step["share"] for step in found] == [[10, 12], [13, 15], [33, 35], [36]]
        assert [note["share"] for note in noted] == [[11], [14], [34], [36]], "the last row counts once all the same"
        for steps in (found, noted):
            assert [step["mean"] for step in steps] == pytest.approx([11, 14, 34, 36], rel=1e-12)
            for step, mean in zip(steps, (11, 14, 34, 36), strict=True):
                assert step["gradient"] == pytest.approx([mean, 2 * mean], rel=1e-6)
        assert not any(note["memory"] for note in noted)

    apart(work)


def interrupt(run: Run) -> None:
    with run.group.training(STATE):
        run.steps((0, 0))
        raise Interrupted("stopped by SIGINT")


@pytest.mark.usefixtures("forked")
def test_an_interruption_ends_the_workers_between_two_steps(tmp_path: Path) -> None:
    def work() -> None:
        run = Run(SpawnedPool(size=3), tmp_path / "notes")
        with pytest.raises(Interrupted, match="^stopped by SIGINT$"):
            interrupt(run)
        assert sorted(note["share"] for note in run.noted()) == [[1], [2]]
        assert not dist.is_initialized()

    apart(work)


def lose_the_batch(run: Run) -> None:
    with run.group.training(STATE):
        run.group.share(next(run.trainer.task.batches(Split.TRAIN, batch_size=3, epoch=0)), epoch=0, place=0)
        raise ValueError("in the middle of a step")


@pytest.mark.usefixtures("forked")
def test_a_main_process_that_fails_does_not_wait_for_a_step_of_its_workers(tmp_path: Path) -> None:
    def work() -> None:
        begun = time.monotonic()
        with pytest.raises(ValueError, match="^in the middle of a step$"):
            lose_the_batch(Run(SpawnedPool(size=2), tmp_path, partial(time.sleep, 600)))
        assert time.monotonic() - begun < PATIENCE.total_seconds()

    apart(work)


class NotAnError(Exception):
    """One that cannot be made of what pickle keeps of it."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def fail_to_solve() -> None:
    raise SolverFailed("the step has become too short.")


def fail_otherwise() -> None:
    raise NotAnError("not", "today")


ERRORS: list[tuple[Callable[[], object], type[BaseException], str]] = [
    (fail_to_solve, SolverFailed, r"^the step has become too short\."),
    (fail_otherwise, RuntimeError, "^NotAnError: not today"),
]


def check_ends(run: Run, kind: type[BaseException], said: str, *, traced: bool) -> None:
    """Two steps raise what their worker has met; `traced`: its traceback is told."""
    with pytest.raises(kind, match=said) as raised, run.group.training(STATE):
        run.steps((0, 0), (0, 1))
    assert not isinstance(raised.value, PeerLost)
    notes = getattr(raised.value, "__notes__", [])
    assert [note.startswith("in process 1 of the run:\nTraceback") for note in notes] == [True] * traced
    assert not dist.is_initialized()


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(("event", "kind", "said"), ERRORS)
def test_what_a_worker_meets_is_raised_in_the_main_process(
    event: Callable[[], object], kind: type[BaseException], said: str, tmp_path: Path
) -> None:
    apart(lambda: check_ends(Run(SpawnedPool(size=2), tmp_path, event), kind, said, traced=True))


@pytest.mark.usefixtures("forked")
def test_a_worker_that_ends_without_a_word_is_named(tmp_path: Path) -> None:
    said = "^process 1 of the run ended with exit code 3$"
    run = partial(os._exit, 3)
    apart(lambda: check_ends(Run(SpawnedPool(size=2), tmp_path, run), RuntimeError, said, traced=False))


def without_a_file(group: ProcessGroup) -> Noting:
    raise FileNotFoundError("no points.csv here")


def end(group: ProcessGroup) -> Noting:
    os._exit(5)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("build", "kind", "said"),
    [
        (without_a_file, FileNotFoundError, "no points.csv here"),
        (end, RuntimeError, r"^a worker process could not start \(exit code 5\)$"),
    ],
)
def test_a_worker_that_cannot_begin_ends_the_run_before_it_is_waited_for(
    build: Callable[[ProcessGroup], Noting], kind: type[BaseException], said: str
) -> None:
    def work() -> None:
        group = MainProcess(SpawnedPool(size=2), device=CPU, every_time=False, build_trainer=build)
        with pytest.raises(kind, match=said), group.training(STATE):
            pytest.fail("began without its worker")

    apart(work)


def test_a_loss_that_no_worker_explains_is_raised_itself() -> None:
    lost = RuntimeError("connection closed by peer")
    with pytest.raises(RuntimeError) as raised, SpawnedPool(size=2).errors():
        raise PeerLost(lost)
    assert raised.value is lost
    assert raised.value.__suppress_context__
    assert str(PeerLost(lost)) == "connection closed by peer"


FIRST, SECOND = Rank(0, 2, 0, 2), Rank(1, 2, 1, 2)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where processes meet that torchrun has started, and no wait of a day if one of them hangs."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("TIMEOUT", "TO_BEGIN"):
        monkeypatch.setattr(torchrun, name, PATIENCE)


def two_of_torchrun(run: Callable[[], None]) -> int:
    """Call `run` in the first of torchrun's processes; returns the exit code of the second."""
    worker = FORK.Process(target=torchrun.join_group, args=(SECOND, partial(os._exit, 9)))
    worker.start()
    torchrun.join_group(FIRST, run)
    worker.join(timeout=PATIENCE.total_seconds())
    assert not dist.is_initialized()
    assert worker.exitcode is not None
    return worker.exitcode


@pytest.mark.usefixtures("address")
def test_workers_of_torchrun_take_one_job_after_another(tmp_path: Path) -> None:
    """Whatever signals they get, which are for the first process."""

    def jobs() -> None:
        for name in ("one", "two"):
            run = Run(TorchrunPool(FIRST, asked=1, device=CPU), tmp_path / name, partial(send_to_itself, *STOPPING))
            with run.group.training(STATE):
                assert [step["mean"] for step in run.steps((0, 0), (0, 1))] == pytest.approx([1, 4], rel=1e-12)
            assert [note["share"] for note in run.noted()] == [[1], [4]]

    def work() -> None:
        assert two_of_torchrun(jobs) == 0

    apart(work)


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize(
    ("event", "kind", "said", "code"),
    [
        *((*error, 0) for error in ERRORS),
        (partial(os._exit, 3), RuntimeError, "another process of the run has ended; torchrun says which", 3),
    ],
)
def test_what_a_worker_of_torchrun_meets_is_raised_in_the_first_process(
    event: Callable[[], object], kind: type[BaseException], said: str, code: int, tmp_path: Path
) -> None:
    """Its own exit code is 0: the run's status is for the first process to tell."""

    def run() -> None:
        check_ends(Run(TorchrunPool(FIRST, asked=2, device=CPU), tmp_path, event), kind, said, traced=code == 0)

    def work() -> None:
        assert two_of_torchrun(run) == code

    apart(work)


@pytest.mark.usefixtures("address")
def test_processes_that_do_not_meet_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "TO_BEGIN", timedelta(milliseconds=100))

    def work() -> None:
        with pytest.raises(SystemExit) as ended:
            torchrun.join_group(FIRST, lambda: pytest.fail("ran alone"))
        said = str(ended.value)
        assert said.startswith("ode-run: process 0 cannot reach the others that torchrun has started (")
        assert "\n" not in said

    apart(work)


def test_a_worker_is_refused_a_machine_without_the_device_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", set_to.append)
    job = Job("cuda", True, partial(Noting, tmp_path, None))
    with pytest.raises(RefusedInput, match=r"^process 3 of the run finds 2 GPUs and needs one of its own\. Use fewer"):
        build_worker(job, rank=3, size=4, gpu=2)
    assert set_to == []
    with pytest.raises(RefusedInput, match=r"^process 3 of the run would use cpu\. Say trainer\.device=cuda\.$"):
        build_worker(job, rank=3, size=4, gpu=1)
    assert set_to == [1]
    worker, trainer = build_worker(job._replace(device="cpu"), rank=3, size=4, gpu=9)
    assert isinstance(trainer, Noting)
    assert (worker.rank, worker.size, worker.every_time, trainer.group) == (3, 4, True, worker)
    assert set_to == [1]


def note_group(place: Path) -> None:
    place.write_text(f"{os.getpgid(0)} {os.getpid()}")


def test_children_are_left_alone_by_what_stops_their_parent(tmp_path: Path) -> None:
    place = tmp_path / "group"
    first = FORK.Process(target=child_process.run_child, args=(pickle.dumps(send_to_itself), *STOPPING))
    second = FORK.Process(target=child_process.run_in_own_group, args=(pickle.dumps(note_group), place))
    for child in (first, second):
        child.start()
        child.join(timeout=PATIENCE.total_seconds())
        assert child.exitcode == 0
    assert place.read_text() == f"{second.pid} {second.pid}"


def sleep(place: Path) -> None:
    place.write_text(str(os.getpid()))
    time.sleep(60)


def die_with_a_child(place: Path) -> None:
    """Start a process, and end without ending it."""
    FORK.Process(target=child_process.run_child, args=(pickle.dumps(sleep), place)).start()
    wait_for(lambda: place.exists() and bool(place.read_text()))
    os._exit(0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    place = tmp_path / "child"
    parent = FORK.Process(target=die_with_a_child, args=(place,))
    parent.start()
    parent.join(timeout=PATIENCE.total_seconds())
    assert parent.exitcode == 0
    wait_for(lambda: gone(int(place.read_text())))
