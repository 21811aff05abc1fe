"""Sweeps through other launchers than Hydra's own. They are optional."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ode_runner.distributed import gpus
from tests.helpers import TINY, ode_run, own_models, record_of, run_folders, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)


def installed(plugin: str) -> bool:
    return bool(importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(f"hydra_plugins.{plugin}"))


PLUGINS = {"local": "hydra_joblib_launcher", "slurm": "hydra_submitit_launcher", "ray": "hydra_ray_launcher"}
JOBLIB, SUBMITIT, RAY = (installed(plugin) for plugin in PLUGINS.values())
FAILING = """
from ode_runner.models.depth.odenet import ODENet

class Raises(ODENet):
    def evolve(self, y0, ts, integrate):
        raise RuntimeError("not today")
"""

WAITING = """
import time
from pathlib import Path

from ode_runner.models.depth.odenet import ODENet

class Waits(ODENet):
    def evolve(self, y0, ts, integrate):
        time.sleep(0 if Path("go").exists() else 0.2)
        return super().evolve(y0, ts, integrate)
"""


@pytest.mark.parametrize("launcher", PLUGINS)
def test_a_launcher_that_is_not_installed_is_named(launcher: str, tmp_path: Path) -> None:
    if installed(PLUGINS[launcher]):
        pytest.skip("is installed")
    ended = typed("-m", "seed=0,1", f"hydra/launcher={launcher}", *QUICK, cwd=tmp_path)
    assert ended.returncode == 2
    package = PLUGINS[launcher].replace("_", "-")
    assert ended.stderr.startswith(f"ode-run: hydra/launcher={launcher} needs {package}: pip install")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not JOBLIB, reason="needs hydra-joblib-launcher: pip install 'ode-run[local]'")
def test_runs_at_the_same_time_share_the_cores_and_come_to_the_same(tmp_path: Path) -> None:
    own_models(tmp_path, "failing", FAILING, "Raises")
    cells = ("-cd", "conf", "-m", "model=odenet,rknet,resnet,raises", "solver=euler,dopri5", *QUICK)
    script = Path(sys.executable).with_name("ode-run")
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    finished = subprocess.run(
        [str(script), *cells, "hydra/launcher=local"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 1
    assert "Traceback" not in finished.stdout + finished.stderr
    assert "sweep of 8 cells" in finished.stdout
    assert "4 completed · 1 incompatible · 1 the same run as another · 2 failed" in finished.stdout
    assert "  failed: model=raises solver=euler: RuntimeError: not today (traceback in " in finished.stdout
    done = {folder: (folder / "record.json").read_bytes() for folder in run_folders(tmp_path)}
    records = [json.loads(content) for content in done.values()]
    threads = {record["environment"]["threads"] for record in records if record["status"] == "completed"}
    cores = len(os.sched_getaffinity(0))
    assert threads == {max(1, cores // 2)}
    again = typed(*cells, cwd=tmp_path)
    assert "4 completed before" in again.stdout, "the launcher is no part of the sweep's name"
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    typed("-m", "model=odenet,rknet,resnet", "solver=euler,dopri5", "sweep=one", *QUICK, cwd=undisturbed)
    metrics = {record["fingerprint"]: record["metrics"] for record in records if record["status"] == "completed"}
    alone = [json.loads((folder / "record.json").read_text()) for folder in run_folders(undisturbed)]
    assert metrics == {record["fingerprint"]: record["metrics"] for record in alone if record["metrics"]}


SEEN = """
import os
from pathlib import Path
from ode_runner.models.depth.odenet import ODENet

class Sees(ODENet):
    def __init__(self, network):
        super().__init__(network)
        Path("seen").mkdir(exist_ok=True)
        Path("seen", str(os.getpid())).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not JOBLIB, reason="needs hydra-joblib-launcher: pip install 'ode-run[local]'")
def test_each_worker_on_one_machine_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    """As far as it can be seen without one: by the environment, which CUDA reads when it begins."""
    own_models(tmp_path, "seeing", SEEN, "Sees")
    command = ("-cd", "conf", "-m", "model=sees", "seed=0,1,2,3", "hydra/launcher=local", "trainer.device=cpu", *QUICK)
    finished = ode_run(*command, cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": "4,6", "TMPDIR": str(tmp_path)})
    assert finished.returncode == 0, finished.stderr
    seen = sorted(path.read_text() for path in (tmp_path / "seen").iterdir())
    assert seen == ["4", "4,6", "6"], "of the workers, and of the sweep, which tries the first cell on the CPU"


def test_gpus_are_shared_out_by_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpus, "_held", [])
    kept = []

    def taken(visible: str, count: int) -> str:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        gpus.take_gpus(count)
        kept.append(list(gpus._held))
        gpus._held.clear()  # the next is another process
        return os.environ["CUDA_VISIBLE_DEVICES"]

    try:
        assert [taken("4,6", 1) for _ in range(3)] == ["4", "6", "4"], "the third shares one"
        kept.clear()
        assert taken("4,6", 1) == "4", "let go of"
        assert [taken("0,1,2,3", 2) for _ in range(2)] == ["2,3", "0,1"]
        assert taken("7", 1) == "7", "nothing to choose"
        assert taken("", 1) == ""
    finally:
        kept.clear()


@pytest.mark.slow
@pytest.mark.skipif(not SUBMITIT, reason="needs hydra-submitit-launcher: pip install 'ode-run[slurm]'")
def test_a_job_that_a_scheduler_takes_back_is_queued_again_and_resumes(tmp_path: Path) -> None:
    """submitit's own executor for one machine stands in for Slurm: the same signal, the same way back.

    Steps are slow until the signal has been sent: a run that completes before would not be taken back.
    """
    own_models(tmp_path, "waiting", WAITING, "Waits")
    command = (
        "-cd",
        "conf",
        "-m",
        "model=waits",
        "seed=0,1",
        "hydra/launcher=submitit_local",
        "sweep=mine",
        "logger=none",
        *TINY,
    )
    longer = ("hydra.launcher.timeout_min=10", "trainer.epochs=100", "trainer.log_every=1")
    script = Path(sys.executable).with_name("ode-run")
    driver = subprocess.Popen(
        [str(script), *command, *longer], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while driver.poll() is None and not any(path.stat().st_size for path in tmp_path.rglob("metrics.jsonl")):
        time.sleep(0.05)
    [begun, *_] = (path.parent for path in tmp_path.rglob("metrics.jsonl") if path.stat().st_size)
    os.kill(job_in(begun), signal.SIGUSR2)
    (tmp_path / "go").touch()
    said, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, said
    assert "2 completed" in said
    logs = "".join(path.read_text() for path in tmp_path.rglob("*_log.out"))
    assert "interrupted: stopped by SIGUSR2; the same command resumes it" in (begun / "ode-run.log").read_text()
    assert logs.count("resuming at step") == 1
    assert [record["status"] for record in map(record_of, run_folders(tmp_path))] == ["completed"] * 2


def job_in(folder: Path) -> int:
    """The process that writes into a run folder."""
    wanted = (folder / "metrics.jsonl").stat()
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # closed, or its process gone
            if os.path.samestat(file.stat(), wanted):
                return int(file.parts[2])
    raise AssertionError(f"nobody works in {folder}")


@pytest.mark.skipif(not SUBMITIT, reason="needs hydra-submitit-launcher: pip install 'ode-run[slurm]'")
def test_no_slurm_is_refused_before_any_cell(tmp_path: Path) -> None:
    """Each cell failed by submitit's RuntimeError."""
    words = ("-m", "seed=0,1", "hydra/launcher=slurm", *QUICK)
    ended = typed(*words, cwd=tmp_path)
    assert ended.returncode == 2
    assert "hydra/launcher=slurm: there is no srun on this machine" in ended.stderr
    assert not (tmp_path / "outputs").exists()
    assert typed(*words, "plan=true", cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not RAY, reason="needs hydra-ray-launcher: pip install 'ode-run[ray]'")
def test_ray_runs_a_sweep_on_this_machine(tmp_path: Path) -> None:
    finished = ode_run("-m", "seed=0,1", "hydra/launcher=ray", *QUICK, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "2 completed" in finished.stdout
