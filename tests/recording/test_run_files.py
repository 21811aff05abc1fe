"""Runs of files named by relative paths, asked from another directory than the one that they were started in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ode_runner as ode
from ode_runner.commands.run_files import find
from ode_runner.errors import RefusedInput
from tests.helpers import typed

QUICK = ("trainer.max_steps=1", "logger=none", "pictures=false")


def measurements(place: Path) -> tuple[str, ...]:
    rows = [f"{t},{np.sin(t):.6f},{np.cos(t):.6f}" for t in np.linspace(0, 6, 30)]
    place.write_text("\n".join(["t,x,y", *rows]))
    return ("task=series", f"task.file={place.name}")


def labelled(place: Path) -> tuple[str, ...]:
    rows = [f"{t},s{i},{i % 2 + t},{'ab'[i % 2]}" for i in range(10) for t in range(3)]
    place.write_text("\n".join(["t,series,x,label", *rows]))
    return ("task=series_classes", f"task.file={place.name}", "model=gru_gaps")


def text(place: Path) -> tuple[str, ...]:
    place.write_text("to be or not to be, that is the question " * 60)
    return ("task=char_text", f"task.file={place.name}", "model=one_shot", "network.width=8", "network.depth=1")


def images(place: Path) -> tuple[str, ...]:
    generator = np.random.default_rng(0)
    for label in ("dark", "light"):
        (place / label).mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 100, (8, 8)) + 100 * (label == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(place / label / f"{i}.png")
    return ("task=images", f"task.folder={place.name}", "task.size=[8,8]", "model=resnet", "network.width=2")


@pytest.mark.parametrize(
    "write", [labelled, *(pytest.param(w, marks=pytest.mark.slow) for w in (measurements, text, images))]
)
def test_a_run_is_loaded_from_anywhere(
    write: Callable[[Path], tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "it's mine", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(project)
    folder = ode.train(*write(project / "mine"), *QUICK).folder.resolve()
    monkeypatch.chdir(elsewhere)
    ode.load(folder)
    project.rename(tmp_path / "moved")
    ode.load(tmp_path / "moved" / folder.relative_to(project))


def test_a_run_is_evaluated_from_elsewhere_and_only_on_its_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = measurements(tmp_path / "seen.csv")
    folder = ode.train(*words, *QUICK).folder
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "seen.csv").write_text("another,file\n1,2\n")
    ended = typed(f"evaluate={folder.resolve()}", "solver=rk4", cwd=elsewhere)
    assert ended.returncode == 0, ended.stderr
    content = (tmp_path / "seen.csv").read_text()
    (tmp_path / "seen.csv").write_text(content.replace("1.000000", "1.5"))
    with pytest.raises(RefusedInput, match=r"was made with other data than task.file=seen.csv has now. Say where"):
        ode.load(folder)
    (tmp_path / "kept.csv").write_text(content)
    ode.load(folder, "task.file=kept.csv")
    (tmp_path / "seen.csv").write_text(content.replace("1.000000", "1.O"))
    with pytest.raises(RefusedInput, match=r"seen.csv, row \d+, column '\w+': '1.O' is no"):
        ode.load(folder)
    (tmp_path / "seen.csv").unlink()
    with pytest.raises(RefusedInput, match=r"with task.file=seen.csv, and there is nothing to be read there"):
        ode.load(folder)


def test_files_are_looked_for_where_the_run_was_started_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, started, here = tmp_path / "a" / "run", tmp_path / "started", tmp_path / "here"
    for place in (run / ".hydra", started, here):
        place.mkdir(parents=True)
    (run / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  runtime:\n    cwd: {started}\n")
    monkeypatch.chdir(here)
    assert find(run, "data.csv") is None
    for place in (tmp_path, tmp_path / "a", here, started):
        (place / "data.csv").touch()
        assert find(run, "data.csv") == place / "data.csv"
    assert find(run, str(here / "data.csv")) is None  # a whole path is what it is
