"""`ode-report prune` and `ode-report cite`."""

from pathlib import Path

import pytest

from ode_runner.recording.lock import lock
from ode_runner.recording.record import RunStatus
from ode_runner.report.sources import objective_of, sources_of
from tests.helpers import options
from tests.problems import named_class
from tests.reporting import reported, write_run


def left(root: Path) -> set[str]:
    return {path.parent.name for path in root.rglob("record.json")}


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Runs in every state, some with a file that no run writes."""
    root = tmp_path / "outputs" / "half_moons"
    for i, status in enumerate(RunStatus):
        write_run(root, status.value, status=status, reason=f"because of {status.value}.", seed=i)
    write_run(root, "noted", status=RunStatus.FAILED, seed=20)
    (root / "noted" / "notes.md").write_text("kept")
    write_run(root, "asked", status=RunStatus.FAILED, seed=21)
    (root / "asked" / "replays").mkdir()
    (root / "begun" / ".hydra").mkdir(parents=True)
    return tmp_path


def test_what_may_go_is_listed_and_nothing_is_removed(outputs: Path) -> None:
    ended = reported("prune", cwd=outputs)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert {"failed (4)", "refused (2)", "left as they are (2)"} <= set(lines)
    assert "  outputs/half_moons/incompatible: because of incompatible." in lines
    assert "  outputs/half_moons/diverged: diverged: because of diverged." in lines
    assert "  outputs/half_moons/noted: failed, but it holds notes.md" in lines
    assert "  outputs/half_moons/asked: failed, but it holds replays" in lines
    assert lines[-1].endswith(" kB in 6 folders. To remove them: ode-report prune outputs --remove")
    assert len(left(outputs)) == len(RunStatus) + 2


def test_asked_it_removes_these_and_nothing_else(outputs: Path) -> None:
    (outputs / "outputs" / "readme.txt").write_text("kept")
    ended = reported("prune", "outputs", "--remove", cwd=outputs)
    assert "removed 6 of 6 folders" in ended.stdout
    assert left(outputs) == {"running", "completed", "interrupted", "pruned", "noted", "asked"}
    assert not (outputs / "outputs" / "half_moons" / "begun").exists()
    assert (outputs / "outputs" / "readme.txt").is_file()
    assert "nothing to remove: 6 runs." in reported("prune", "outputs", cwd=outputs).stdout


def test_superseded_is_what_a_completed_run_beside_it_has_too(tmp_path: Path) -> None:
    place = tmp_path / "outputs" / "half_moons"
    for name, finished in (("older", "2026-01-01"), ("newer", "2026-02-01")):
        write_run(place, name, finished=finished)
    write_run(place, "never ended", status=RunStatus.INTERRUPTED, finished="2026-03-01")
    write_run(place, "another seed", seed=1)
    write_run(tmp_path / "outputs" / "sweeps" / "mine" / "half_moons", "older", finished="2025-01-01")
    ended = reported("prune", "--remove", cwd=tmp_path)
    assert "  outputs/half_moons/older: the same run as newer beside it, which is completed" in ended.stdout
    assert sorted(path.parent.name for path in tmp_path.rglob("record.json")) == ["another seed", "newer", "older"]
    assert (tmp_path / "outputs" / "sweeps" / "mine" / "half_moons" / "older").is_dir(), "a sweep keeps its own"


def test_a_run_that_another_names_or_that_is_a_link_stays(tmp_path: Path) -> None:
    place = tmp_path / "outputs"
    write_run(place, "teacher", status=RunStatus.FAILED)
    write_run(place, "pupil", seed=1, options={"model": {"teacher": str(place / "teacher")}})
    write_run(tmp_path, "elsewhere", status=RunStatus.FAILED, seed=2)
    (place / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    ended = reported("prune", "--remove", cwd=tmp_path)
    assert "outputs/teacher: failed, but another run names it" in ended.stdout
    assert "outputs/linked: failed, but it is a link" in ended.stdout
    assert left(tmp_path) == {"teacher", "pupil", "elsewhere"}


def test_a_folder_in_which_a_process_works_stays(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "outputs", "busy", status=RunStatus.FAILED)
    with lock(folder):
        assert "busy: failed, but another process works there" in reported("prune", "--remove", cwd=tmp_path).stdout
    assert folder.is_dir()


def test_prune_empties_no_folder_above_those_named(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs" / "half_moons", "failed", status=RunStatus.FAILED)
    reported("prune", "outputs", "--remove", cwd=tmp_path)
    assert list((tmp_path / "outputs").iterdir()) == []


def test_cite_prints_what_docstrings_name(tmp_path: Path) -> None:
    classes = {
        "model": {"_target_": "ode_runner.models.depth.odenet.ODENet"},
        "solver": {"_target_": "ode_runner.solvers.explicit.euler.Euler"},
        "gradient": {"_target_": "ode_runner.gradients.checkpoint.Checkpoint"},
        "optimizer": {"_target_": "torch.optim.Adam"},
        "network": {"_target_": "my_layers.Own", "inner": {"_target_": "ode_runner.networks.conv.Conv"}},
    }
    folder = write_run(tmp_path, "run", options=classes)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("- experiment=mnist_one_epoch\n")
    lines = reported("cite", "run", cwd=tmp_path).stdout.splitlines()
    chen = "Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018"
    assert lines[:2] == ["experiment=mnist_one_epoch", f"  the network of {chen}."]
    assert lines[2:6] == ["model=odenet (ODENet)", f"  {chen}, section 3.", "objective (Supervised)", "  Our own."]
    assert lines[lines.index("solver=euler (Euler)") + 1].startswith("  Hairer, Norsett, Wanner."), "of its base class"
    assert lines[lines.index("gradient=backprop (Checkpoint)") + 1].startswith("  Zhuang, ")
    assert f"  {chen}, section 3." in lines[lines.index("network=mlp (Conv)") :]
    assert lines[lines.index("optimizer (torch.optim.Adam)") + 1].startswith("  Kingma, Ba."), "of its yaml"
    assert "network=mlp (my_layers.Own)" in next(line for line in lines if line.startswith("without a source: "))
    write_run(tmp_path, "untrained", options=classes, cost={"parameters": 0})
    untrained = reported("cite", "untrained", cwd=tmp_path).stdout
    assert "solver=euler" in untrained
    assert not {"objective", "optimizer"} & set(untrained.split()), "nothing is learned"


@pytest.mark.parametrize("group", ["model", "solver", "gradient", "regularizer"])
def test_every_member_names_a_source_or_says_that_it_is_our_own(group: str) -> None:
    classes = [named_class(group, name) for name in options(group) if name != "none"]
    targets = {f"{kind.__module__}.{kind.__name__}" for kind in classes}
    if group == "model":
        objectives = {target: objective_of(target) for target in targets}
        assert objectives == {
            f"{kind.__module__}.{kind.__name__}": f"{type(kind.objective).__module__}.{type(kind.objective).__name__}"
            for kind in classes
        }
        targets |= set(objectives.values())
    assert len(targets) > 5
    assert not [target for target in targets if not sources_of(target)]


@pytest.mark.parametrize("words", [("cite",), ("cite", "a", "b"), ("prune", "--trust"), ("verify", "a", "--remove")])
def test_usage_is_said_in_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = reported(*words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"type: ode-report {words[0]}" in ended.stderr
