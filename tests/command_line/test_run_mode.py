"""How often Hydra composes the configuration of a command."""

import re
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from ode_runner.config.help import conf_dir
from ode_runner.config.run_mode import MAKE_SWEEPS
from tests.helpers import typed


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The configurations that Hydra composes, one entry each."""
    made: list[str] = []
    load = ConfigLoaderImpl._load_configuration_impl

    def counted(self: ConfigLoaderImpl, *positional: object, **named: object) -> object:
        made.append(str(named.get("overrides")))
        return load(self, *positional, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    return made


def test_one_run_is_composed_once(tmp_path: Path, compositions: list[str]) -> None:
    assert typed("task=half_moons", "plan=true", cwd=tmp_path).returncode == 0
    assert len(compositions) == 1


def test_a_sweep_of_two_cells_is_composed_once_and_then_each_cell(tmp_path: Path, compositions: list[str]) -> None:
    assert typed("-m", "task=half_moons", "solver=rk4,euler", "plan=true", cwd=tmp_path).returncode == 0
    assert len(compositions) == 3


@pytest.mark.sampled(1)
@pytest.mark.parametrize("words", [["hydra.mode=MULTIRUN"], ["grid=gradients"], ["-cd", "conf", "+mine=sweep"]])
def test_what_sets_the_mode_makes_a_sweep_without_a_flag(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "conf" / "mine").mkdir(parents=True)
    (tmp_path / "conf" / "mine" / "sweep.yaml").write_text("# @package _global_\nhydra:\n  mode: MULTIRUN\n")
    ended = typed(*words, "task=half_moons", "seed=0,1", "plan=true", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "outputs/sweeps/" in ended.stdout


def test_no_other_built_in_choice_sets_the_mode() -> None:
    setting = [
        path.relative_to(conf_dir()).parts[0]
        for path in conf_dir().rglob("*.yaml")
        if re.search(r"^\s+mode: *(MULTI)?RUN|/(grid|search):", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert set(setting) == set(MAKE_SWEEPS)
