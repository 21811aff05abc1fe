"""Code of one's own that imports modules of the program by the names that they had before."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from ode_runner.config.moved_modules import RENAMED, present_name
from ode_runner.solvers.explicit import dopri5

BEFORE = {
    "ode_runner.solvers.dopri5": "ode_runner.solvers.explicit.dopri5",
    "ode_runner.solvers.sampler": "ode_runner.solvers.samplers.sampler",
    "ode_runner.tasks.trajectories": "ode_runner.tasks.dynamics.trajectories",
    "ode_runner.models.discrete_flow": "ode_runner.models.flows.discrete_flow",
    "ode_runner.structured_field": "ode_runner.fields.structured_field",
    "ode_runner.ledger": "ode_runner.fields.ledger",
    "ode_runner.path_field": "ode_runner.paths.denoising_field",
    "ode_runner.series": "ode_runner.controls.series",
}


@pytest.mark.parametrize("before", BEFORE)
def test_a_module_is_found_by_the_name_that_it_had(before: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{before} is {BEFORE[before]} now"):
        found = importlib.import_module(before)
    now = importlib.import_module(BEFORE[before])
    assert found is now, "each of its classes is one"
    assert now.__spec__ is not None
    assert now.__spec__.name == now.__name__ == BEFORE[before]
    del sys.modules[before]


def test_the_warning_is_of_the_line_that_imports(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from ode_runner.solvers.dopri5 import Dopri5\n\nclass Mine(Dopri5): ...\n")
    code = (
        "from mine import Mine; from ode_runner.solvers.explicit.dopri5 import Dopri5; print(issubclass(Mine, Dopri5))"
    )
    command = [sys.executable, "-W", "default", "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout == "True\n"
    assert "mine.py:1: DeprecationWarning: ode_runner.solvers.dopri5 is " in ended.stderr


@pytest.mark.parametrize(
    "name",
    ["ode_runner.nowhere", "ode_runner.solvers.nowhere", "ode_runner.solvers.base.deeper", "torch.dopri5", "dopri5"],
)
def test_what_was_never_ours_is_not_found(name: str) -> None:
    assert present_name(name) is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


def test_every_new_name_is_that_of_a_module() -> None:
    for now in RENAMED.values():
        assert importlib.import_module(f"ode_runner.{now}")
    assert present_name("ode_runner.solvers.dopri5") == dopri5.__name__
