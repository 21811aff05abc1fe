"""Records of runs that were made before classes of the program moved."""

from pathlib import Path

import pytest

from ode_runner.config.help import conf_dir, targets_in
from ode_runner.config.moved_classes import PACKAGE, with_present_classes
from tests.reporting import reported, write_run

NOW = "ode_runner.solvers.explicit.euler.Euler"


def test_every_class_that_a_built_in_yaml_names_is_known_wherever_it_was() -> None:
    targets = {target for path in conf_dir().rglob("*.yaml") for target in targets_in(path)}
    ours = [target for target in targets if target.startswith(PACKAGE)]
    assert len(ours) > 150
    for target in ours:
        _, group, *_, name = target.split(".")
        before = {"_target_": f"ode_runner.{group}.formerly.there.{name}"}
        assert with_present_classes(before) == {"_target_": target}


@pytest.mark.parametrize(
    "target",
    [NOW, "mine.Euler", "ode_runner.config.trust.os.system", "ode_runner.networks.euler.Euler", "torch.optim.Adam", 3],
)
def test_every_other_class_stays_as_it_is(target: object) -> None:
    assert with_present_classes({"_target_": target, "width": 3}) == {"_target_": target, "width": 3}


def test_classes_within_options_are_found() -> None:
    before = {"solver": {"base": [{"_target_": "ode_runner.solvers.euler.Euler"}], "_target_": "mine.Solver"}}
    assert with_present_classes(before) == {"solver": {"base": [{"_target_": NOW}], "_target_": "mine.Solver"}}
    assert before["solver"]["base"] == [{"_target_": "ode_runner.solvers.euler.Euler"}], "the record is left as it is"


def test_sources_and_differences_are_those_of_the_class(tmp_path: Path) -> None:
    write_run(tmp_path, "now", options={"solver": {"_target_": NOW}})
    write_run(tmp_path, "before", options={"solver": {"_target_": "ode_runner.solvers.euler.Euler"}})
    assert reported("cite", "before", cwd=tmp_path).stdout == reported("cite", "now", cwd=tmp_path).stdout
    assert "_target_" not in reported("diff", "before", "now", cwd=tmp_path).stdout
