"""README, docs/ and what goes with them say what is so."""

import importlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from ode_runner.config.help import conf_dir
from tests.documentation.gallery import ALL, ENTRIES, LARGEST, Entry
from tests.documentation.imports import drawing, groups
from tests.documentation.pages import DRAWING, PART, parts, text_of
from tests.helpers import record_of, typed

ROOT = Path(__file__).parents[2]
SLOW = {"matrix"}  # some ten thousand verdicts, which tests/config/test_config.py has too
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
BLOCK = re.compile(r"^`(?P<path>[\w/]+\.\w+)`\n```(?:python|yaml)\n(?P<code>.*?)```", re.DOTALL | re.MULTILINE)
EXAMPLES = {found["path"]: found["code"] for found in BLOCK.finditer(README)}
# Runs and folders that are not there, plugins, and values with spaces.
NOT_COMPOSED = r"FOLDER|\.\.\.|=outputs/|-cd|ode-run new |launcher=|hydra/sweeper=|hydra.sweeper.cells="


def commands() -> set[str]:
    """Every `ode-run` of a block of code, without its comment; of a sweep, cells in which each value occurs."""
    lines = [line for page in PAGES.values() for line in page.splitlines() if re.match(r"    ode-run\b", line)]
    shown = {re.split(r" {3,}", line.strip())[0] for line in lines}
    return {cell for line in shown if not re.search(NOT_COMPOSED, line) for cell in cells(line.replace(" -m", ""))}


def cells(command: str) -> set[str]:
    """The commands that a sweep's one line stands for, as many as it takes to have each value once."""
    words = [re.split(r"(?<==)|,", word) if "=" in word and "[" not in word else [word] for word in command.split()]
    choices = [[word[0] + value for value in word[1:]] or word for word in words]
    return {" ".join(word[i % len(word)] for word in choices) for i in range(max(map(len, choices)))}


@pytest.mark.parametrize(
    ("name", "text"),
    [pytest.param(name, text, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, text in parts()],
)
def test_what_is_generated_in_docs_is_up_to_date(name: str, text: str) -> None:
    assert text == text_of(name), "make generated"


def test_the_drawing_of_imports_is_up_to_date() -> None:
    assert DRAWING.read_text(encoding="utf-8") == drawing(), "make generated"


def test_no_arrow_of_the_drawing_leads_up() -> None:
    """Places that import each other would share a box."""
    assert [box for box in groups() if len(box) > 1] == []


def test_every_group_of_choices_has_its_table() -> None:
    hidden = {"local", "task_model", "task_solver", "task_network"}
    groups = {path.parent.name for path in conf_dir().glob("*/*.yaml")} - hidden
    assert {f"members {group}" for group in groups} <= {found["name"] for found in PART.finditer(PAGES["choices.md"])}


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_to_files(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGES[page]):
        assert re.match(r"https?://", target) or (folder / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_classes_and_functions_that_are_named_exist(page: str) -> None:
    for module, name in re.findall(r"`(ode_runner(?:\.[a-z_]+)*)\.(\w+)", PAGES[page]):
        found = hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}")
        assert found, f"{module}.{name}"


@pytest.mark.parametrize("page", PAGES)
def test_options_that_are_named_exist(page: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in conf_dir().rglob("*.yaml")]
    keys = {key for text in texts for key in re.findall(r"\w+(?=:)|(?<=@package logger\.)\w+", text)}
    groups = "task|model|network|solver|gradient|optimizer|schedule|trainer|logger|diagnostics"
    assert set(re.findall(rf"(?<![\w/.@])(?:{groups})\.([a-z_]+)\b(?![(/])", PAGES[page])) <= keys


@pytest.mark.sampled(12)
@pytest.mark.parametrize("command", sorted(commands()))
def test_commands_that_are_shown_are_understood(command: str, tmp_path: Path) -> None:
    ended = typed(*shlex.split(command)[1:], "--cfg", "job", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.endswith(".py")])
def test_examples_of_ones_own_are_short(path: str) -> None:
    assert len([line for line in EXAMPLES[path].splitlines() if line]) <= 10


@pytest.mark.parametrize(
    "choices",
    [
        "solver=ssprk3 task=disc model=deep",
        *(pytest.param(word, marks=pytest.mark.slow) for word in ("solver=ssprk3", "task=disc", "model=deep")),
    ],
)
def test_examples_of_ones_own_run(choices: str, tmp_path: Path) -> None:
    for path, code in EXAMPLES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    ended = typed("-cd", "conf", *choices.split(), "trainer=quick", "network.width=8", "logger=none", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert "test accuracy" in ended.stdout


def test_the_citation_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert {"authors", "message", "title"} <= citation.keys()


GALLERY = {part.split("\n", 1)[0]: part for part in PAGES["gallery.md"].split("\n## ")[1:]}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_an_entry_of_the_gallery_has_every_number_that_it_names(entry: Entry) -> None:
    assert all(f"`{name}` " in GALLERY[entry.title] for name in entry.numbers)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.model == "exact"], ids=lambda entry: entry.title)
def test_numbers_of_the_gallery_that_take_no_training_are_those_of_their_commands(entry: Entry, tmp_path: Path) -> None:
    (command,) = re.findall(r"^    ode-run (.+)$", GALLERY[entry.title], re.MULTILINE)
    assert typed(*shlex.split(command), "pictures=false", "logger=none", cwd=tmp_path).returncode == 0
    metrics = record_of(tmp_path)["metrics"]
    for name in entry.numbers:
        (told,) = re.findall(rf"`{name}` ([^\s,]+(?:,\d+)*)", GALLERY[entry.title])
        near = (
            0.05 if name == "test/bigram_tv" else 0.006
        )  # texts are drawn, and rounding decides where two are as likely
        assert float(told.replace(",", "")) == pytest.approx(metrics[name], rel=near, abs=1e-13)


def test_the_pictures_of_the_gallery_are_small_and_all_shown() -> None:
    pictures = list((ROOT / "docs" / "gallery").iterdir())
    assert all(path.stat().st_size < LARGEST for path in pictures)
    assert sum(path.stat().st_size for path in pictures) < ALL
    assert {path.name for path in pictures} == set(re.findall(r"\(gallery/(.+?)\)", PAGES["gallery.md"]))
