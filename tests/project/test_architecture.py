"""The arrows between modules, and their size."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ode_runner
from ode_runner.config.help import conf_dir
from tests.documentation.imports import MAP
from tests.source import imports, tree

PACKAGE = Path(ode_runner.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
KNOWN = frozenset(MODULES)


# What the root of the package holds: the architecture. Everything else has a folder.
ROOT = {"__init__", "__main__", *(place for places in MAP.values() for place in places if not place.endswith("/"))}
FOLDERS = {place.removesuffix("/") for places in MAP.values() for place in places if place.endswith("/")}


@cache
def imported(module: str, *, top_level_only: bool = False) -> list[str]:
    """Full names of everything a module imports."""
    return list(_imported(module, top_level_only=top_level_only))


def _imported(module: str, *, top_level_only: bool) -> Iterator[str]:
    path = PACKAGE / module
    nodes = tree(path).body if top_level_only else imports(path)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield str(node.module)
            yield from (full for alias in node.names if is_own_module(full := f"{node.module}.{alias.name}"))


def is_own_module(name: str) -> bool:
    return name.startswith("ode_runner.") and "/".join(name.split(".")[1:]) + ".py" in KNOWN


def own(name: str) -> str | None:
    """The file of one of our modules, by its full name."""
    if name.partition(".")[0] != "ode_runner":
        return None
    inside = name.split(".")[1:]
    for path in ("/".join(inside) + ".py", "/".join([*inside, "__init__.py"])):
        if path in KNOWN:
            return path
    raise AssertionError(f"no module {name}")


@cache
def own_imports(module: str) -> frozenset[str]:
    return frozenset(path for name in imported(module) if (path := own(name)) is not None)


@cache
def reachable(module: str) -> frozenset[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        new = own_imports(waiting.pop()) - seen
        seen |= new
        waiting += new
    return frozenset(seen)


def within(folder: str) -> list[str]:
    return [module for module in MODULES if module.startswith(f"{folder}/")]


def importers(library: str) -> set[str]:
    return {module for module in MODULES for name in imported(module) if name.partition(".")[0] == library}


def test_imports_form_no_cycle() -> None:
    order = list(TopologicalSorter({module: own_imports(module) for module in MODULES}).static_order())
    assert sorted(order) == MODULES


def test_folders_import_each_other_in_one_direction() -> None:
    """Imports within functions and for type checkers count too; a module of the root stands for itself."""

    def folder(module: str) -> str:
        return module.rpartition("/")[0] or module

    arrows: dict[str, set[str]] = {folder(module): set() for module in MODULES}
    for module in MODULES:
        arrows[folder(module)] |= {folder(other) for other in own_imports(module)} - {folder(module)}
    assert set(TopologicalSorter(arrows).static_order()) == set(arrows)


def test_the_root_holds_the_architecture_and_nothing_else() -> None:
    assert {module.removesuffix(".py") for module in MODULES if "/" not in module} == ROOT
    assert len(ROOT) <= 15, "what is not the architecture has a folder"


def test_every_folder_is_on_the_map() -> None:
    assert {module.partition("/")[0] for module in MODULES if "/" in module} == FOLDERS


def test_numerics_build_on_each_other_in_one_direction() -> None:
    chain = ["types.py", "field.py", "solvers/base.py", "gradients/base.py", "integrator.py"]
    for i, module in enumerate(chain):
        assert not reachable(module) & set(chain[i:]), module
    assert set(chain[:-1]) <= reachable("integrator.py")


@pytest.mark.parametrize("folder", ["tasks", "models", "networks"])
@pytest.mark.parametrize("numerics", ["solvers", "gradients"])
def test_tasks_models_and_networks_know_no_numerics(folder: str, numerics: str) -> None:
    for module in within(folder):
        assert not reachable(module) & set(within(numerics)), module


def test_tasks_know_neither_networks_nor_models() -> None:
    for module in within("tasks"):
        assert not reachable(module) & {*within("networks"), *within("models")}, module


def test_solvers_know_no_gradient_mode() -> None:
    for module in within("solvers"):
        assert not reachable(module) & {*within("gradients"), "integrator.py"}, module


def test_what_a_yaml_names_is_imported_by_nobody() -> None:
    """A new member is one module and one yaml: no other file changes."""
    text = "".join(path.read_text(encoding="utf-8") for path in conf_dir().rglob("*.yaml"))
    groups = "tasks|models|networks|solvers|gradients|regularizers|loggers"
    named = set(re.findall(rf"_target_: (ode_runner\.(?:{groups})\.\w+)", text))
    members = {path for name in named if (path := own(name)) is not None}
    assert len(members) >= 5
    for module in MODULES:
        assert not own_imports(module) & members, module


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        (
            "hydra",
            {
                *within("building"),
                "api/composing.py",
                "config/choices.py",
                "config/command_files.py",
                "config/composition_cost.py",
                "config/known_options.py",
                "launch.py",
                "config/overrides.py",
                "config/messages.py",
                "config/run_mode.py",
                "config/unused_words.py",
                *within("sweeps"),
            },
        ),
        ("optuna", {"sweeps/pruning.py", "sweeps/study.py"}),
        (
            "omegaconf",
            {
                "api/composing.py",
                "api/loading.py",
                "build.py",
                "config/choices.py",
                "config/command_files.py",
                "config/composition_cost.py",
                "config/known_options.py",
                "launch.py",
                "commands/run_folders.py",
                "config/messages.py",
                "commands/dispatch.py",
                "config/unused_words.py",
                "config/yaml_options.py",
                "config/yaml_text.py",
            }
            | {*within("sweeps"), *within("building")},
        ),
        ("pandas", {*within("api"), *within("tasks"), *within("commands")}),
        ("tensorboard", {"loggers/tensorboard.py"}),
        ("torchdiffeq", {*within("solvers"), *within("gradients")}),
        ("zuko", set(within("models"))),
        ("sklearn", set(within("tasks"))),
        (
            "rich",
            {
                "recording/display.py",
                "recording/sweep_bar.py",
                "report/diff.py",
                "report/screen.py",
                "report/verify.py",
            },
        ),
        ("yaml", {"config/yaml_faults.py", "config/yaml_text.py", "recipes/recipe.py", "recording/stored_command.py"}),
    ],
)
def test_a_library_is_known_in_few_places(library: str, allowed: set[str]) -> None:
    assert importers(library) <= allowed


def test_torchs_tensorboard_is_known_to_the_logger_only() -> None:
    knowing = {module for module in MODULES for name in imported(module) if "tensorboard" in name}
    assert knowing == {"loggers/tensorboard.py"}


@pytest.mark.parametrize("module", ["cli.py", "config/help.py", "distributed/child_process.py"])
def test_the_command_line_answers_before_torch_and_hydra_are_loaded(module: str) -> None:
    waiting, seen = [module], {module}
    while waiting:
        names = list(imported(waiting.pop(), top_level_only=True))
        assert not {name.partition(".")[0] for name in names} & {"torch", "hydra", "omegaconf"}, module
        new = {path for name in names if (path := own(name)) is not None} - seen
        seen |= new
        waiting += new


def test_the_report_reads_records_without_the_program_that_makes_them() -> None:
    """No torch, which takes seconds to import, and none of the modules that need it."""
    heavy = {"torch", "torchvision", "torchdiffeq", "tensorboard", "sklearn", "hydra", "omegaconf"}
    assert within("report")
    assert within("recipes")
    for module in [*within("report"), *within("recipes")]:
        for used in {module, *reachable(module)}:
            assert not {name.partition(".")[0] for name in imported(used)} & heavy, f"{module}: {used}"


def test_the_table_is_made_before_matplotlib_is_loaded() -> None:
    waiting, seen = ["report/cli.py"], {"report/cli.py"}
    while waiting:
        names = list(imported(waiting.pop(), top_level_only=True))
        assert not {name.partition(".")[0] for name in names} & {"matplotlib", "numpy", "yaml"}
        new = {path for name in names if (path := own(name)) is not None} - seen
        seen |= new
        waiting += new


def test_no_module_is_long() -> None:
    lengths = {module: len((PACKAGE / module).read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert [module for module, length in lengths.items() if length > 300] == []


def test_no_function_is_long() -> None:
    lengths = {
        f"{module}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(tree(PACKAGE / module))
        if isinstance(node, ast.FunctionDef)
    }
    assert [function for function, length in lengths.items() if length > 50] == []


def test_every_module_says_what_it_is() -> None:
    assert [module for module in MODULES if not ast.get_docstring(tree(PACKAGE / module))] == []


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    names = {part for module in MODULES for part in Path(module).with_suffix("").parts}
    assert not names & {"utils", "common", "core", "callbacks", "registry", "helpers", "misc"}
