"""The wheel holds all that the program needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ode_runner.config.help import conf_dir
from tests.helpers import TINY, record_of

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_every_choice_and_nothing_of_the_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"ode_runner/report/page.css", "ode_runner/report/page.js"} <= names
    assert {"ode_runner/project/my_task.py", "ode_runner/project/conf/solver/heun3.yaml"} <= names
    files = {path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*") if path.is_file()}
    assert {f"ode_runner/conf/{name}" for name in files} <= names
    assert not {name for name in names if name.startswith(("tests/", "outputs/", "conf/"))}


def test_the_installed_wheel_runs_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "elsewhere"
    here.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str, program: str = "ode-run") -> str:
        command = [sys.executable, str(site / "bin" / program), *arguments]
        finished = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    assert "odenet" in run("--help")
    assert "_target_: ode_runner.models.depth.odenet.ODENet" in run("--cfg", "job")
    assert str(site / "ode_runner" / "conf") in run("--info", "searchpath")
    run("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)
    record = record_of(here)
    assert (record["status"], record["environment"]["git_sha"]) == ("completed", "")
    assert "half_moons" in run(program="ode-report")
    assert "6 will run" in run("grid=solvers", "solver=rk4", "seed=0,1", "plan=true")
