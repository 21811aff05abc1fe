"""Experiments from the literature: complete, true to their headers, and their results told as the records have them."""

import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from ode_runner.building.instantiate import construct, target_of
from ode_runner.building.run_identity import identify
from ode_runner.compatibility import check_compatible
from ode_runner.config.help import conf_dir
from ode_runner.errors import RefusedInput
from ode_runner.recipes import __main__ as command
from ode_runner.recipes import recipe as recipe_module
from ode_runner.recipes.outcome import BandCheck, outcomes
from ode_runner.recipes.page import Page
from ode_runner.recipes.recipe import Expectation, Recipe, choose, read_recipes
from ode_runner.recipes.results import markdown
from ode_runner.recording import environment as environment_module
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.report import where
from ode_runner.report.runs import Run, find_runs
from tests.conftest import Compose
from tests.reporting import write_run

RECIPES, FAULTS = read_recipes()
COMPOSED = [
    pytest.param(name, marks=[pytest.mark.slow] * bool(recipe.grid or recipe.count > 20))
    for name, recipe in RECIPES.items()
]
FIELDS = ("Source", "Run", "Expect", "Minutes")
README = Path(__file__).parents[2] / "README.md"


def header(name: str) -> dict[str, str]:
    """The fields of the comments that an experiment opens with, each on one line."""
    text = (conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    comments = re.sub(r"\n#\s+", " ", "".join(f"{line}\n" for line in text.splitlines() if line.startswith("#")))
    for field in FIELDS:
        comments = comments.replace(f" {field}: ", f"\n{field}: ")
    lines = (line.partition(":") for line in comments.splitlines())
    return {field: content.strip() for field, _, content in lines if field in FIELDS}


def cells_of_grid(name: str) -> list[list[str]]:
    """The overrides of each cell that a grid lists."""
    sweeper = yaml.safe_load((conf_dir() / "grid" / f"{name}.yaml").read_text())["hydra"]["sweeper"]
    shared = [f"{option}={value}" for option, value in sweeper["params"].items()]
    return [[*shared, *cell.split()] for cell in sweeper["cells"]]


_cells: dict[str, list[Run]] = {}


def cells(name: str, composed: Compose) -> list[Run]:
    """A run for each point of a recipe's sweep, as its record would identify it; made once, for composing is slow."""
    if name not in _cells:
        axes = [word.partition("=") for word in RECIPES[name].sweep]
        points = product(*([f"{axis}={value}" for value in values.split(",")] for axis, _, values in axes))
        points = cells_of_grid(RECIPES[name].grid) if RECIPES[name].grid else points
        configurations = [composed(f"experiment={name}", *point) for point in points]
        records = [identify(cfg, cfg.hydra.runtime.choices) for cfg in configurations]
        _cells[name] = [Run(folder=Path(name), record=record) for record in records]
    return _cells[name]


@pytest.mark.parametrize("name", RECIPES)
def test_an_experiment_opens_with_source_command_expectation_and_minutes(name: str) -> None:
    fields = header(name)
    assert tuple(fields) == FIELDS
    assert all(fields.values())


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_in_the_header_is_the_one_that_is_run(name: str) -> None:
    assert header(name)["Run"] == " ".join(RECIPES[name].command)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", COMPOSED)
def test_each_point_of_a_recipe_composes_into_what_goes_together(composed: Compose, name: str) -> None:
    seen = set()
    for run in cells(name, composed):
        cfg = OmegaConf.create(run.record.config)
        choices = {axis: str(choice) for axis, choice in run.record.choices.items()}
        check_compatible(choices, target_of(cfg, "model"), construct(cfg, "solver"), construct(cfg, "gradient"))
        construct(cfg, "trainer")
        seen.add(run.identity)
    assert len(seen) == len(cells(name, composed)), "a point is run twice"
    assert RECIPES[name].count <= len(seen) * len(RECIPES[name].seeds)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", COMPOSED)
def test_each_expectation_is_of_one_configuration(composed: Compose, name: str) -> None:
    for expectation in RECIPES[name].expect:
        assert len(where.choose(cells(name, composed), expectation.where)) == 1
        if expectation.is_ratio:
            others = cells(expectation.against_recipe or name, composed)
            assert len(where.choose(others, expectation.against)) == 1


def test_each_recipe_for_a_cpu_is_judged_by_a_band() -> None:
    """A row without a band is only ever beside one that has one, of the same recipe or divided by it."""
    results = {
        name
        for recipe in RECIPES.values()
        for expectation in recipe.expect
        if expectation.band is not None
        for name in (recipe.name, expectation.against_recipe)
    }
    assert set(RECIPES) <= results


def test_what_a_recipe_says_of_itself_changes_no_fingerprint(composed: Compose) -> None:
    with_recipe, without = composed("experiment=linear_fit"), composed("experiment=linear_fit", "recipe=null")
    assert with_recipe.recipe is not None
    fingerprints = {identify(cfg, cfg.hydra.runtime.choices).fingerprint for cfg in (with_recipe, without)}
    plain = composed("task=linear", "model=odenet")
    assert fingerprints == {identify(plain, plain.hydra.runtime.choices).fingerprint}


def test_the_page_of_results_has_every_recipe_and_the_readme_leads_to_it() -> None:
    page = (conf_dir() / "experiment" / "RESULTS.md").read_text(encoding="utf-8")
    for name, recipe in RECIPES.items():
        assert page.count(f"({name}.yaml)") == 1, "run make recipes"
        assert f"of {recipe.count} |" in page
    assert "(conf/experiment/RESULTS.md)" in README.read_text(encoding="utf-8")


def made(name: str = "mine", *, seeds: Sequence[int] = (0, 1), sweep: Sequence[str] = (), **expectation: Any) -> Recipe:
    values = {"metric": "test/accuracy", "published": 99.0, "unit": "%", "band": [89.0, 91.0]} | expectation
    return Recipe(name=name, source="a paper", size="cpu", minutes=1, sweep=sweep, seeds=seeds,
                  expect=[Expectation(**values)])  # fmt: skip


def results(root: Path, recipe: Recipe, *others: Recipe) -> tuple[BandCheck, list[float]]:
    """The outcome of the first recipe's expectation, its runs being in root/<name>."""
    recipes = {each.name: each for each in (recipe, *others)}
    [outcome, *_] = outcomes(recipes, runs_in(root, recipes))
    return outcome.band_check, list(outcome.values)


def runs_in(root: Path, recipes: Mapping[str, Recipe]) -> dict[str, list[Run]]:
    return {name: find_runs([root / name]).runs for name in recipes if (root / name).is_dir()}


@pytest.mark.parametrize(
    ("accuracies", "band_check"),
    [
        ([0.89, 0.91], BandCheck.PASS),
        ([0.91, 0.91], BandCheck.PASS),  # the ends belong to the band
        ([0.91, 0.92], BandCheck.FAIL),
        ([0.85, 0.88], BandCheck.FAIL),
        ([0.9], BandCheck.INCOMPLETE),
        ([0.9, math.nan], BandCheck.INCOMPLETE),
        ([], BandCheck.NOT_RUN),
    ],
)
def test_the_mean_over_all_seeds_must_lie_in_the_band(
    accuracies: list[float], band_check: BandCheck, tmp_path: Path
) -> None:
    for seed, accuracy in enumerate(accuracies):
        write_run(tmp_path / "mine", f"s{seed}", seed=seed, metrics={"test/accuracy": accuracy})
    found, values = results(tmp_path, made())
    assert found is band_check
    assert values == pytest.approx([100 * accuracy for accuracy in accuracies if math.isfinite(accuracy)])


def test_without_a_band_nothing_is_judged(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "mine", f"s{seed}", seed=seed)
    assert results(tmp_path, made(band=None, note="other data"))[0] is BandCheck.NO_BAND


def test_runs_that_failed_or_have_another_seed_do_not_count(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", "a", seed=0, metrics={"test/accuracy": 0.9})
    write_run(tmp_path / "mine", "b", seed=1, metrics={"test/accuracy": 0.9}, status=RunStatus.DIVERGED)
    write_run(tmp_path / "mine", "c", seed=2, metrics={"test/accuracy": 0.9})
    assert results(tmp_path, made()) == (BandCheck.INCOMPLETE, [90.0])


def test_only_runs_that_meet_the_conditions_count(tmp_path: Path) -> None:
    for solver, accuracy in (("euler", 0.5), ("rk4", 0.9)):
        write_run(tmp_path / "mine", solver, solver=solver, metrics={"test/accuracy": accuracy})
    recipe = made(seeds=[0], sweep=["solver=euler,rk4"], where=["solver=rk4"])
    assert results(tmp_path, recipe) == (BandCheck.PASS, [90.0])
    assert results(tmp_path, made(seeds=[0], where=["solver=dopri5"])) == (BandCheck.NOT_RUN, [])


def test_ratios_are_formed_seed_by_seed(tmp_path: Path) -> None:
    for seed, (ours, theirs) in enumerate([(0.2, 0.4), (0.9, 0.6)]):
        write_run(tmp_path / "mine", f"rk4-{seed}", solver="rk4", seed=seed, metrics={"test/loss": ours})
        write_run(tmp_path / "mine", f"euler-{seed}", seed=seed, metrics={"test/loss": theirs})
    recipe = made(metric="test/loss", unit="", where=["solver=rk4"], against=["solver=euler"], band=[0.9, 1.1])
    band_check, values = results(tmp_path, recipe)
    assert values == pytest.approx([0.5, 1.5])
    assert band_check is BandCheck.PASS


def test_a_metric_may_be_divided_by_another_of_the_same_runs(tmp_path: Path) -> None:
    recipe = made(metric="test/frechet", unit="", seeds=[0], against_metric="test/frechet_floor", band=[1, 2])
    write_run(tmp_path / "mine", "b", metrics={"test/frechet": 6.0, "test/frechet_floor": 4.0})
    assert results(tmp_path, recipe) == (BandCheck.PASS, [1.5])
    assert "| test/frechet / test/frechet_floor | " in page_of(tmp_path, {"mine": recipe})
    with pytest.raises(RefusedInput, match="by other runs, or by another metric, not by both"):
        made(metric="test/frechet", against_metric="test/frechet_floor", against=["solver=euler"])


def test_a_ratio_may_be_to_another_recipe_and_waits_for_it(tmp_path: Path) -> None:
    recipe = made(metric="test/loss", unit="", seeds=[0], against_recipe="theirs", band=[0, 0.99])
    write_run(tmp_path / "mine", "a", metrics={"test/loss": 0.2})
    assert results(tmp_path, recipe, made("theirs")) == (BandCheck.NOT_RUN, [])
    write_run(tmp_path / "theirs", "b", metrics={"test/loss": 0.4})
    assert results(tmp_path, recipe, made("theirs")) == (BandCheck.PASS, [0.5])


def test_a_recipe_that_was_changed_counts_its_latest_configuration_only(tmp_path: Path) -> None:
    for width, accuracy, day in ((4, 0.5, 1), (8, 0.9, 2)):
        for seed in (0, 1):
            write_run(
                tmp_path / "mine", f"w{width}-{seed}", seed=seed, metrics={"test/accuracy": accuracy},
                options={"network": {"width": width}}, finished=f"2026-01-0{day}T00:00:00+00:00",
            )  # fmt: skip
    assert results(tmp_path, made()) == (BandCheck.PASS, [90.0, 90.0])


def test_the_page_tells_result_band_and_origin(tmp_path: Path) -> None:
    environment = {"git_sha": "1234567890", "git_dirty": True, "device": "cpu", "cpu": "Xeon", "threads": 2}
    for seed, accuracy in enumerate((0.9, 0.94)):
        write_run(tmp_path / "mine", f"s{seed}", seed=seed, metrics={"test/accuracy": accuracy},
                  cost={"wall_seconds": 90.0}, environment=environment)  # fmt: skip
    write_run(tmp_path / "mine", "lost", seed=2, status=RunStatus.DIVERGED, reason="the loss is nan")
    recipes = {"mine": made(), "full": made("full", note="64 channels")}
    page = markdown(recipes, runs_in(tmp_path, recipes), Page())
    assert "1 fail, 1 not run." in page
    assert "| test/accuracy [%] | 99.00 | 92.00 ± 2.83 | 2 of 2 | 89.00 to 91.00 | **fail** |  |" in page
    assert "| test/accuracy [%] | 99.00 | - | 0 of 2 | 89.00 to 91.00 | not run | 64 channels |" in page
    assert "| `mine` | a paper | 2 of 2 | 2026-01-01 | 1234567 with changes | Xeon, 2 threads | 3.0 |" in page
    assert "the loss is nan" in page


def test_a_narrow_band_is_written_with_as_many_digits_as_tell_its_ends_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", "s0", metrics={"test/period": 19.0779}, environment={})
    narrow = {"metric": "test/period", "published": 19.0784, "unit": "", "band": [19.076, 19.080]}
    recipes = {"mine": made(seeds=(0,), **narrow)}
    assert "| 19.078 | 19.078 | 1 of 1 | 19.076 to 19.08 | pass |" in markdown(
        recipes, runs_in(tmp_path, recipes), Page()
    )


HERE = {"git_sha": "abcdef1234", "git_dirty": False, "device": "cpu", "cpu": "Other | Xeon", "threads": 1}


def page_of(root: Path, recipes: Mapping[str, Recipe], earlier: str = "") -> str:
    """A page written after the earlier one."""
    (root / "page.md").write_text(earlier)
    return markdown(recipes, runs_in(root, recipes), Page.read(root / "page.md"))


def test_what_is_not_run_here_stays_as_it_is_committed(tmp_path: Path) -> None:
    recipes = {name: made(name, note="a | bar") for name in ("one", "two", "three")}
    for name in ("one", "two"):
        for seed in (0, 1):
            write_run(tmp_path / "there" / name, f"{seed}", seed=seed, metrics={"test/accuracy": 0.9},
                      cost={"wall_seconds": 60.0}, environment=HERE)  # fmt: skip
    write_run(tmp_path / "there" / "two", "lost", seed=1, status=RunStatus.DIVERGED, reason="the loss is nan")
    committed = page_of(tmp_path / "there", recipes)
    assert "2 pass, 1 not run." in committed
    (here := tmp_path / "here").mkdir()
    assert page_of(here, recipes, committed) == committed, "nothing was run"
    assert page_of(here, recipes, "somebody's own\n| text |\n") != committed

    write_run(here / "one", "0", seed=0, metrics={"test/accuracy": 0.5}, environment=HERE)
    assert page_of(here, recipes, committed) == committed, "of fewer seeds"
    newer = {**HERE, "git_sha": "fedcba9876"}
    write_run(here / "one", "1", seed=1, metrics={"test/accuracy": 0.5}, environment=newer, finished="2027-01-01T00")
    page = page_of(here, recipes, committed)
    assert "1 pass, 1 fail, 1 not run." in page
    changed = [(old, new) for old, new in zip(committed.splitlines(), page.splitlines(), strict=True) if old != new]
    assert [new.split(" | ")[0].strip("| ") for _, new in changed][1:] == ["[`one`](one.yaml)", "`one`"]
    assert "| 2027-01-01 | abcdef1; fedcba9 |" in page

    recipes["two"] = made("two", band=[0.0, 1.0], note="a | bar")
    assert "1 fail, 2 not run." in page_of(here, recipes, committed), "judged by another band, it says nothing"


def test_a_result_that_waits_for_another_recipe_stays_with_its_origin(tmp_path: Path) -> None:
    one = Recipe(name="one", source="a paper", size="cpu", minutes=1, sweep=(), seeds=(0,), expect=[
        Expectation(metric="test/accuracy", published=None, band=[0.0, 1.0]),
        Expectation(metric="test/accuracy", published=None, band=[0.0, 2.0], against_recipe="two"),
    ])  # fmt: skip
    recipes = {"one": one, "two": made("two", seeds=(0,))}
    for name in recipes:
        write_run(tmp_path / "there" / name, "0", metrics={"test/accuracy": 0.9}, environment=HERE)
    committed = page_of(tmp_path / "there", recipes)
    write_run(
        tmp_path / "here" / "one", "0", metrics={"test/accuracy": 0.8}, environment={**HERE, "git_sha": "fedcba9"}
    )
    page = page_of(tmp_path / "here", recipes, committed)
    assert "| test/accuracy | - | 0.8 | 1 of 1 |" in page
    assert "| test/accuracy: one / two | - | 1 | 1 of 1 |" in page
    assert "| `one` | a paper | 1 of 1 | 2026-01-01 | fedcba9 |" in page
    assert "| `one`, before | a paper | 1 of 1 | 2026-01-01 | abcdef1 |" in page
    assert page_of(tmp_path / "here", recipes, page) == page


def test_the_committed_page_stays_as_it_is_where_nothing_was_run() -> None:
    page = conf_dir() / "experiment" / "RESULTS.md"
    assert markdown(RECIPES, {}, Page.read(page)) == page.read_text(encoding="utf-8")


def test_the_page_itself_is_no_change_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    page = root / "conf" / "experiment" / "RESULTS.md"
    page.parent.mkdir(parents=True)
    code = root / "ode_runner" / "recording" / "environment.py"
    code.parent.mkdir(parents=True)
    for path in (page, code):
        path.write_text("before")
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")):
        subprocess.run(["git", *words], cwd=root, check=True)
    monkeypatch.setattr(environment_module, "__file__", str(code))
    dirty = []
    for path in (page, code):
        path.write_text("after")
        environment_module._commit.cache_clear()
        dirty.append(environment_module.describe_environment(torch.device("cpu"))["git_dirty"])
    assert dirty == [False, True]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"unit": "furlongs"}, "unit 'furlongs'"),
        ({"band": [2.0, 1.0]}, r"must be \[low, high\]"),
        ({"band": None}, "no note that says why"),
        ({"sweep": ["model=resnet,odenet"]}, "leaves model open"),
        ({"sweep": ["model=a,b"], "where": ["model=a"], "against": ["seed=0"]}, "leaves model open"),
        ({"seeds": []}, "needs seeds"),
    ],
)
def test_a_recipe_that_could_not_be_judged_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedInput, match=words):
        made(**changed)


def test_recipes_are_chosen_by_name_or_by_size() -> None:
    assert {recipe.size for recipe in choose(RECIPES, [], faults={})} == {"cpu"}
    assert [recipe.name for recipe in choose(RECIPES, ["node_table1_odenet"], faults={})] == ["node_table1_odenet"]
    with pytest.raises(RefusedInput, match="no recipe named 'linear_fitt'. Did you mean 'linear_fit'?"):
        choose(RECIPES, ["linear_fitt"], faults={})


STAND_IN = """\
#!{python}
import sys
with open("typed", "a") as file:
    print(*sys.argv[1:], file=file)
sys.exit({code})
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two recipes of its own, in which a stand-in writes down what it is called with."""
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        recipe = "{source: s, size: cpu, minutes: 1, sweep: [], seeds: [0], expect: [%s]}"
        expectation = "{metric: test/accuracy, published: null, band: [0.8, 1.0]}"
        (folder / f"{name}.yaml").write_text(f"# It.\nrecipe: {recipe % expectation}\n")
    for module in (command, recipe_module):
        monkeypatch.setattr(module, "conf_dir", lambda: tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    stand_in(tmp_path, monkeypatch, code=0)
    return tmp_path


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *, code: int) -> None:
    script = folder / "stand-in"
    script.write_text(STAND_IN.format(python=sys.executable, code=code))
    script.chmod(0o755)
    monkeypatch.setattr(command, "program", lambda: str(script))


def test_every_recipe_is_run_by_its_command_and_the_page_written(bench: Path) -> None:
    assert command.main([]) == 1  # nothing came out, and that is no pass
    lines = [f"-m experiment={name} seed=0 sweep={name}" for name in ("one", "two")]
    assert (bench / "typed").read_text().splitlines() == lines
    assert "2 not run." in (bench / "conf" / "experiment" / "RESULTS.md").read_text()


def test_one_recipe_is_run_and_judged_alone_while_the_page_keeps_all(bench: Path) -> None:
    write_run(bench / "outputs" / "sweeps" / "two" / "half_moons", "a")
    assert command.main(["two"]) == 0
    assert (bench / "typed").read_text().count("\n") == 1
    page = (bench / "conf" / "experiment" / "RESULTS.md").read_text()
    assert "1 pass, 1 not run." in page


def test_a_file_that_is_no_recipe_refuses_itself_alone(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not FAULTS
    files = {"mine": "trainer: {epochs: 1}", "torn": "recipe: [", "part": "recipe: {size: cpu, expect: []}"}
    for name, content in files.items():
        (bench / "conf" / "experiment" / f"{name}.yaml").write_text(content)
    command.main(["one", "two"])
    assert (bench / "typed").read_text().count("\n") == 2
    of_part, of_torn = capsys.readouterr().err.splitlines()
    assert "part.yaml: the recipe is not complete" in of_part
    assert of_torn.endswith("line 1, column 10: expected the node content, but found '<stream end>'. It is left out.")
    for name, sentence in (("torn", "cannot read .*torn.yaml"), ("mine", "no recipe named 'mine'")):
        with pytest.raises(RefusedInput, match=sentence):
            command.main([name])


def test_the_page_can_be_written_without_running_anything(bench: Path) -> None:
    command.main(["--table-only"])
    assert not (bench / "typed").exists()
    assert (bench / "conf" / "experiment" / "RESULTS.md").is_file()


def test_an_interruption_ends_all_and_still_leaves_a_page(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(bench, monkeypatch, code=130)
    assert command.main([]) == 130
    assert (bench / "typed").read_text().count("\n") == 1
    assert (bench / "conf" / "experiment" / "RESULTS.md").is_file()


def test_an_interrupted_run_is_given_the_time_to_save(bench: Path) -> None:
    saving = (
        "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(0.6)\nopen('saved', 'w').close()\n"
    )
    script = bench / "stand-in"
    script.write_text(
        script.read_text().replace("import sys\n", f"import sys\n{saving}").replace("exit(0)", "exit(130)")
    )
    assert command.main([]) == 130
    assert (bench / "saved").exists()


def test_an_unknown_name_is_refused_in_one_line(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "ode_runner.recipes", "linear_fitt"]
    finished = subprocess.run(arguments, cwd=README.parent, capture_output=True, text=True)
    assert finished.returncode == 2
    assert re.fullmatch(r"recipes: no recipe named 'linear_fitt'\. .*\n", finished.stderr)


@pytest.mark.slow
def test_a_real_recipe_passes_and_the_same_command_again_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    monkeypatch.setattr(command, "conf_dir", lambda: tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    assert command.main(["pendulum_portrait"]) == 0
    records = {path: path.read_bytes() for path in tmp_path.rglob("record.json")}
    assert len(records) == 2
    assert all(RunRecord.read(path.parent) for path in records)
    assert command.main(["pendulum_portrait"]) == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("record.json")} == records
