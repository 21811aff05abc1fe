"""Names of run folders carry what was typed, and the run is found whatever they are."""

from pathlib import Path

import pytest

from ode_runner.config.help import conf_dir
from ode_runner.config.overrides import quoted_where_needed
from ode_runner.config.typed_options import MOST_SIGNS, shortened_options
from ode_runner.recording.bookkeeping import ASIDE
from ode_runner.recording.display import Display
from tests.helpers import record_of, run_folder, run_folders, typed

SMALL = ("task.train=40", "task.validation=20", "task.test=20", "trainer.epochs=1", "logger=none")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["optimizer.lr=0.01", "seed=3", "task=digits"], ["lr=0.01"]),
        (["network=conv", "optimizer=sgd", "+experiment=reflection"], ["conv", "sgd", "reflection"]),
        (["task.radii=[1,2]", "task.file='a b.csv'"], ["radii=1_2", "file=a_b.csv"]),
        (["processes=2", "trainer.device=cpu", "output_dir=x", "logger=none", "hydra.verbose=true", "grid=models"], []),
        (["task.noise=0.1", "model.noise=0.1", "task.std=2"], ["task.noise=0.1", "model.noise=0.1", "std=2"]),
        (["solver.num_steps=4", "solver.step_size=null", "~experiment"], ["num_steps=4"]),
        (["gradient.interval=3"], []),  # of a group that the run does not use
    ],
)
def test_options_are_shortened(words: list[str], shown: list[str]) -> None:
    named = {"task", "model", "solver", "gradient", "regularizer"}
    assert shortened_options(words, named=named, unused=["gradient"]) == shown


def test_a_name_is_no_longer_than_people_read() -> None:
    shown = shortened_options([f"task.option_{i}={i}" for i in range(20)], named=(), unused=())
    assert shown[-1] == f"+{20 - len(shown) + 1}"
    assert len("-".join(shown[:-1])) <= MOST_SIGNS


def test_a_run_is_found_by_what_it_is_not_by_how_it_was_typed(tmp_path: Path) -> None:
    assert typed("optimizer.lr=0.01", *SMALL, cwd=tmp_path).returncode == 0
    folder = run_folder(tmp_path)
    assert "-lr=0.01-" in folder.name
    assert "already completed" in typed(*SMALL, "optimizer.lr=1e-2", cwd=tmp_path).stdout
    renamed = folder.rename(folder.with_name(f"odenet-dopri5-backprop-s0-{record_of(tmp_path)['fingerprint']}"))
    assert (
        f"already completed: {renamed.relative_to(tmp_path)}" in typed("optimizer.lr=0.01", *SMALL, cwd=tmp_path).stdout
    )


def test_a_choice_with_a_dash_in_its_name_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "conf" / "solver").mkdir(parents=True)
    text = (conf_dir() / "solver" / "rk4.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf" / "solver" / "my-rk4.yaml").write_text(text, encoding="utf-8")
    ended = typed("-cd", "conf", "solver=my-rk4", "model=odenet", "plan=true", *SMALL, cwd=tmp_path)
    assert "odenet-my-rk4-backprop" in ended.stdout


def test_a_name_with_an_equals_sign_is_typed_as_it_is(tmp_path: Path) -> None:
    typed(*SMALL, cwd=tmp_path)
    folder = run_folder(tmp_path).relative_to(tmp_path)
    assert "=" in folder.name
    answer = typed(f"predict={folder}", "times=[0,1]", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


def test_cells_typed_in_several_ways_are_one_run(tmp_path: Path) -> None:
    ended = typed("-m", *SMALL, "optimizer.lr=0.01,1e-2", cwd=tmp_path)
    assert "1 the same run as another" in ended.stdout
    assert len(run_folders(tmp_path)) == 1


def test_what_to_type_next_is_quoted_where_a_shell_needs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ASIDE, raising=False)
    Display()._places(Path("my runs/half_moons/odenet-lr=1"))
    said = capsys.readouterr().out
    assert "  run folder: my runs/half_moons/odenet-lr=1\n" in said
    assert "  compare:    ode-report 'my runs/half_moons'\n" in said


def test_only_plain_values_are_quoted() -> None:
    words = ["evaluate=a-lr=0.1-s0", "task.file='a=b'", "+x={a: 1}", "seed=1,2", "hydra.sweeper.cells=[solver=rk4]"]
    assert quoted_where_needed(words) == ["evaluate='a-lr=0.1-s0'", *words[1:]]
    flags = ["-cd", "a-lr=0.1-depth=2/code/conf"]
    assert quoted_where_needed([*flags, *words]) == [*flags, "evaluate='a-lr=0.1-s0'", *words[1:]]
