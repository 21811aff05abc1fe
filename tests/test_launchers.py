"""Sweeps through other launchers than Hydra's own. They are optional."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import TINY, run_folders, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
JOBLIB = importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher")
FAILING = """
from ode_runner.models.odenet import ODENet

class Raises(ODENet):
    def evolve(self, y0, ts, integrate):
        raise RuntimeError("not today")
"""


@pytest.mark.skipif(JOBLIB, reason="hydra-joblib-launcher is installed")
def test_a_launcher_that_is_not_installed_is_named(tmp_path: Path) -> None:
    ended = typed("-m", "seed=0,1", "hydra/launcher=local", *QUICK, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("ode-run: hydra/launcher=local needs hydra-joblib-launcher: pip install")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not JOBLIB, reason="needs hydra-joblib-launcher: pip install 'ode-run[local]'")
def test_runs_at_the_same_time_share_the_cores_and_come_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "conf" / "model" / "raises.yaml").write_text("_target_: failing.Raises\n")
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
