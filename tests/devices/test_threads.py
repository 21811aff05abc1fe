"""Small fields are computed by one thread, in every command on a run; busy machines are noticed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ode_runner.build import build_experiment
from ode_runner.building.threads import with_own_threads
from ode_runner.devices import waiting_threads
from ode_runner.devices.waiting_threads import threads_wait
from tests.helpers import TINY, exactly_typed, record_of, run_folders
from tests.problems import Compose

COMMANDS = ("evaluate={run}", "audit=true")


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("overrides", "threads"),
    [
        (["trainer.batch_size=100"], 1),
        (["trainer.batch_size=250"], 2),  # of 64 x 64 weights: 1,024,000 multiplications
        (["trainer.batch_size=250", "task.train=100"], 1),  # no batch is larger than the data
        (["network.width=128", "trainer.batch_size=100"], 2),
        (["task=digits", "trainer.batch_size=4", "network.width=8"], 1),  # 64 pixels of 8 x 8 x 16 weights
        (["task=digits", "trainer.batch_size=64", "network.width=8"], 2),
        pytest.param(["task=sequence_sort", "model=ode_transformer"], 2, marks=pytest.mark.slow),  # 16 tokens
        (["task=lotka_volterra", "model=exact"], 2),  # nothing is learned: how much is computed is not known
    ],
)
def test_small_products_take_one_thread(overrides: list[str], threads: int, composed: Compose) -> None:
    cfg = composed(*overrides)
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    assert torch.get_num_threads() == 2, "to build an experiment changes nothing: ode.load does it, too"
    assert with_own_threads(experiment) is experiment
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("two_threads")
def test_the_number_that_the_user_sets_counts(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cfg = composed()
    with_own_threads(build_experiment(cfg, cfg.hydra.runtime.choices))
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_all_commands_on_a_run_take_the_threads_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    monkeypatch.setattr("ode_runner.building.threads._is_small", lambda experiment: judged.append("") is None)
    assert exactly_typed(*TINY, "trainer.max_steps=1", cwd=tmp_path).returncode == 0
    [run] = run_folders(tmp_path)
    for number, command in enumerate(COMMANDS, start=1):
        assert len(judged) == number
        words = TINY if command == "audit=true" else ()
        assert exactly_typed(*words, command.format(run=run), cwd=tmp_path).returncode == 0
    assert len(judged) == 1 + len(COMMANDS)
    assert record_of(run)["environment"]["threads"] == 1


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("seconds", "wait"), [((0.16, 2e-4), True), ((4e-4, 2e-4), False)])
def test_threads_that_wait_are_noticed(
    seconds: tuple[float, float], wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {2: seconds[0], 1: seconds[1]}
    monkeypatch.setattr(waiting_threads, "_seconds", lambda: times[torch.get_num_threads()])
    assert threads_wait() is wait
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert not threads_wait()


def test_a_busy_machine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.training.train_and_test.threads_wait", lambda: True)
    ended = exactly_typed(*TINY, "trainer.max_steps=1", cwd=tmp_path)
    assert "threads wait for each other in every operation: export OMP_NUM_THREADS=1" in " ".join(ended.stdout.split())
