"""The notebooks in examples/ run from top to bottom, and hold the pictures that they draw."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> list[str]:
    """Its cells of code, without what is for IPython alone."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return ["\n".join(line for line in text.splitlines() if not line.startswith("%")) for text in source]


def test_there_are_four() -> None:
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_are_kept_and_no_error_is(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert path.stat().st_size < 500_000


@pytest.mark.slow
@pytest.mark.filterwarnings("default", "error::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    mpl.use("agg")
    names: dict[str, object] = {"__name__": "__main__"}
    kept = torch.get_default_dtype()
    try:
        for number, code in enumerate(code_of(path)):
            exec(compile(code, f"{path.name}, cell {number}", "exec"), names)
    finally:
        torch.set_default_dtype(kept)
