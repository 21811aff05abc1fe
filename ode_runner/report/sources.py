"""`ode-report cite`: the sources of a run's choices, from docstrings of their classes and headers of yamls.

A class names its sources in the last paragraph of its docstring, or says there that it is our own. The yaml of a
recipe, or of a class of another package, names them in a line that begins with Source. Files are only read, and nothing
is imported.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ode_runner.config.help import conf_dir, targets_in
from ode_runner.config.moved_classes import with_present_classes
from ode_runner.errors import RefusedInput
from ode_runner.recording.own_code import named_classes
from ode_runner.recording.printable import printable
from ode_runner.recording.record import NONE, UNUSED
from ode_runner.recording.stored_command import stored_overrides
from ode_runner.report.runs import Run

PACKAGE = Path(__file__).resolve().parents[1]
OWN = "Our own."
YEAR = re.compile(r"\b(1[89]|20)\d\d\b")
SOURCE = re.compile(r"^# Source:(.*\n(?:#  .*\n)*)", re.MULTILINE)
BESIDES = ("optimizer", "schedule")  # groups that have sources but are not axes of the record


def cite(run: Run) -> None:
    """Print the sources of the run's recipe, if it has one, and of every choice in use; then choices without any."""
    unnamed = []
    for words, sources in _sources(run):
        if not sources:
            unnamed.append(words)
            continue
        for line in (words, *(f"  {source}" for source in sources)):
            print(printable(line))
    if unnamed:
        print(printable(f"without a source: {', '.join(unnamed)}"))
    print("\nTo cite the program itself: CITATION.cff of its repository.")


def _sources(run: Run) -> Iterator[tuple[str, list[str]]]:
    """Each choice, with the sources that its class names."""
    yield from _recipe(run)
    config, learned = with_present_classes(run.record.config), run.record.cost.get("parameters") != 0
    for group, choice in {**run.record.choices, **dict.fromkeys(BESIDES if learned else (), "")}.items():
        if choice in (UNUSED, NONE):
            continue
        for target in dict.fromkeys(named_classes(config.get(group, {}))):
            package, _, name = target.partition(".")
            whose = name.rpartition(".")[2] if package == PACKAGE.name else target
            sources = sources_of(target) or _of_yaml(group, target)
            yield f"{group}={choice} ({whose})" if choice else f"{group} ({whose})", sources
            objective = objective_of(target) if group == "model" and learned else ""
            if objective:
                yield f"objective ({objective.rpartition('.')[2]})", sources_of(objective)


def _recipe(run: Run) -> Iterator[tuple[str, list[str]]]:
    try:
        words = stored_overrides(run.folder)
    except RefusedInput:  # the record suffices for the other choices
        return
    for name in (word.removeprefix("experiment=") for word in words if word.startswith("experiment=")):
        path = conf_dir() / "experiment" / f"{Path(name).name}.yaml"
        if path.is_file() and (sources := _in_header(path)):
            yield f"experiment={name}", sources


def _of_yaml(group: str, target: str) -> list[str]:
    """The sources in the yaml of the group's built-in choice with this class."""
    paths = sorted((conf_dir() / group).glob("*.yaml"))
    return next((_in_header(path) for path in paths if target in targets_in(path)), [])


def _in_header(path: Path) -> list[str]:
    found = SOURCE.search(path.read_text(encoding="utf-8"))
    return [re.sub(r"\s*\n#?\s*", " ", found[1]).strip()] if found else []


def sources_of(target: str) -> list[str]:
    """The sources that a class of this program, or its nearest base class, names; none for other packages' classes."""
    module, _, name = target.rpartition(".")
    if not module.startswith(f"{PACKAGE.name}."):
        return []
    return next((sources for _, place in _lineage(module, name) if (sources := _named_in(place))), [])


def objective_of(target: str) -> str:
    """The class of the objective of a model of this program; "" for other models."""
    module, _, name = target.rpartition(".")
    if not module.startswith(f"{PACKAGE.name}."):
        return ""
    for where, node in _lineage(module, name):
        for line in node.body:
            match line:
                case ast.AnnAssign(target=ast.Name(id="objective"), value=ast.Call(func=ast.Name(id=made))):
                    return f"{_imported(_tree(where)).get(made, where)}.{made}"
    return ""


def _lineage(module: str, name: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """The class and its base classes within this program, the nearest first, each with its module."""
    tree = _tree(module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield module, node
            for base in [part.id for part in node.bases if isinstance(part, ast.Name)]:
                yield from _lineage(_imported(tree).get(base, module), base)


def _tree(module: str) -> ast.Module:
    """The syntax tree of a module; empty if it is not a file of this program."""
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")


def _imported(tree: ast.Module) -> dict[str, str]:
    """The names that a module imports, each with the module from which it comes."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


def _named_in(node: ast.ClassDef) -> list[str]:
    """The paragraphs of a class's docstring that contain a year, or say that the class is our own."""
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    return [" ".join(paragraph.split()) for paragraph in paragraphs if YEAR.search(paragraph) or paragraph == OWN]
