"""A stranger's first day. Each step's screen is kept in `outputs/journey`, to be looked at."""

import csv
import importlib.util
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chromium import browser, chromium

ROOT = Path(__file__).resolve().parents[2]
SCREENS = ROOT / "outputs" / "journey"
LOAD = """
import sys
import ode_runner as ode

run = ode.load(sys.argv[1])
print(f"accuracy {run.results['test/accuracy']:.3f}")
print(run.metrics[["train/loss"]].dropna().tail(3))
images = [[[[0.5] * 8] * 8]] * 2
print("class scores", tuple(run.predict(images).shape))
print("learned derivative", tuple(run.field(0.5, run.states(images)[0]).shape))
print(ode.runs("outputs").T)
"""
OPEN = {
    "torch_export": ("field.pt2", """
import sys
import torch

program = torch.export.load(sys.argv[1]).module()
print("derivative", tuple(program(torch.tensor(0.3), torch.zeros(5, 2)).shape))
"""),
    "onnx": ("field.onnx", """
import sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = [np.array(0.3, np.float32), np.zeros((5, 2), np.float32)]
[found] = session.run(None, {one.name: value for one, value in zip(session.get_inputs(), given)})
print("derivative", found.shape)
"""),
}  # fmt: skip
ONNX = ("onnx", "onnxscript", "onnxruntime")
ROWS = "[...document.querySelectorAll('#runs tbody tr')]"
BUTTONS = "[...document.querySelectorAll('#runs thead button')]"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


class Stranger:
    """Somebody at a terminal in a folder."""

    def __init__(self, home: Path) -> None:
        self.home, self.steps = home, 0
        shutil.rmtree(SCREENS, ignore_errors=True)
        SCREENS.mkdir(parents=True)

    def types(self, command: str) -> str:
        """What the screen shows of a command that must succeed."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": f"{self.home / '.venv' / 'bin'}:{os.environ['PATH']}",
        }
        ended = subprocess.run(
            ["bash", "-c", command], cwd=self.home, env=environment, capture_output=True, text=True, timeout=1800
        )
        shown = ended.stdout + ended.stderr
        self.screen("txt").write_text(f"$ {command}\n{shown}", encoding="utf-8")
        assert ended.returncode == 0, f"$ {command}\n{shown}"
        return shown

    def screen(self, kind: str) -> Path:
        """A file for the next step's screen."""
        self.steps += 1
        return SCREENS / f"{self.steps:02}.{kind}"


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    """With a clone of what is committed, and an environment in it; the packages are those that are here."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout to clone")
    home = tmp_path / "ode-run"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(home)], check=True)
    _install(home)
    return Stranger(home)


def test_from_the_clone_to_the_page(stranger: Stranger) -> None:
    told = stranger.types("make run")
    assert float(re.search(r"test accuracy +([\d.]+)", told)[1]) > 90  # type: ignore[index]
    folder = re.search(r"run folder: (\S+)", told)[1]  # type: ignore[index]
    (stranger.home / "look.py").write_text(LOAD, encoding="utf-8")
    assert "class scores (2, 10)" in stranger.types(f"python look.py {shlex.quote(folder)}")

    _measure(stranger.home / "mine.csv", rows=60)
    told = stranger.types("ode-run task=series task.file=mine.csv trainer.epochs=20")
    folder = re.search(r"run folder: (\S+)", told)[1]  # type: ignore[index]
    _measure(stranger.home / "new.csv", rows=10, begin=7.0)
    stranger.types(f"ode-run predict={shlex.quote(folder)} data=new.csv times=8:9:5")
    [forecast] = (stranger.home / folder / "predictions").rglob("forecast*.csv")
    rows = list(csv.DictReader(forecast.read_text(encoding="utf-8").splitlines()))
    assert {"t", "x"} <= rows[0].keys()
    assert all(math.isfinite(float(row["x"])) for row in rows if row["x"])

    command = "ode-run -m model=resnet,odenet solver=euler,rk4,dopri5 seed=0,1 trainer.epochs=3 sweep=first"
    assert "sweep of 12 cells" in stranger.types(command)
    stranger.types("ode-report outputs/sweeps/first --html page.html")
    _look_at_the_page(stranger)

    stranger.types(
        "ode-run new mine && cd mine && ode-run -cd conf task=brusselator model=paced solver=heun3 trainer.epochs=2"
    )
    stranger.types("cd mine && ode-run pack outputs/brusselator/*")
    [folder] = stranger.home.glob("outputs/sweeps/first/half_moons/odenet-euler-*-s0-*")
    _take_elsewhere(stranger, folder.relative_to(stranger.home))
    stranger.types("ode-report cite outputs/digits")
    stranger.types("ode-report prune outputs")


def _look_at_the_page(stranger: Stranger) -> None:
    chromium()
    accuracies = f"{ROWS}.map(row => parseFloat(row.querySelector('.number').textContent))"
    button = f"{BUTTONS}.find(one => one.textContent.startsWith('test/accuracy'))"
    with browser() as page:
        page.open(stranger.home / "page.html")
        page.screenshot(stranger.screen("png"))
        page.click(button)
        sorted_by_accuracy = page.value(accuracies)
        assert len(sorted_by_accuracy) == 8, "of 12 cells, 8 are different runs"
        assert sorted_by_accuracy == sorted(sorted_by_accuracy, reverse=True)
        page.screenshot(stranger.screen("png"))
        page.point("document.querySelector('.plot')")
        page.screenshot(stranger.screen("png"))


def _take_elsewhere(stranger: Stranger, folder: Path) -> None:
    """The learned field in files that torch alone and, where it is installed, ONNX Runtime open."""
    formats = list(OPEN) if all(map(importlib.util.find_spec, ONNX)) else ["torch_export"]
    for name in formats:
        file, script = OPEN[name]
        stranger.types(f"ode-run export={shlex.quote(str(folder))} format={name}")
        [path] = (stranger.home / folder).glob(f"exports/*/{file}")
        (stranger.home / "open.py").write_text(script, encoding="utf-8")
        assert "derivative (5, 2)" in stranger.types(f"python open.py {shlex.quote(str(path))}")


def _measure(path: Path, *, rows: int, begin: float = 0.0) -> None:
    """A damped oscillation, as somebody's instrument might write it."""
    times = [begin + i / 10 for i in range(rows)]
    lines = [
        f"{t:.1f},{math.exp(-t / 10) * math.cos(2 * t):.5f},{math.exp(-t / 10) * math.sin(2 * t):.5f}" for t in times
    ]
    path.write_text("\n".join(["t,x,y", *lines]) + "\n", encoding="utf-8")


def _install(home: Path) -> None:
    """What `make install` makes, of the packages that are here instead of those of an index."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / ".venv")], check=True)
    [site] = (home / ".venv" / "lib").glob("python*/site-packages")
    places = [str(home), *(place for place in sys.path if "site-packages" in place)]
    (site / "journey.pth").write_text("\n".join(places) + "\n")
    for name, module in (("ode-run", "ode_runner.cli"), ("ode-report", "ode_runner.report.cli")):
        script = home / ".venv" / "bin" / name
        script.write_text(f"#!{home}/.venv/bin/python\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
    (home / ".venv" / "installed").touch()
