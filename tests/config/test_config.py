"""The yaml files: each composes, says what it is, and describes an object that can be made."""

import inspect
import re
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from ode_runner.batch import Answer, TaskSpec
from ode_runner.building.instantiate import construct, target_of
from ode_runner.building.members import members
from ode_runner.compatibility import check_compatible
from ode_runner.config.help import GROUPS, conf_dir
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.base import Model, Numerics
from ode_runner.solvers.base import AdaptiveSolver
from ode_runner.solvers.step_control import StepControl
from ode_runner.tasks.dynamics.lotka_volterra import LotkaVolterraField
from ode_runner.tasks.images.cifar10 import Cifar10
from ode_runner.tasks.images.fashion_mnist import FashionMnist
from ode_runner.tasks.series.area import Area
from tests.helpers import options
from tests.problems import Compose, SmallNet, build, named_class, names_its_network, offering

YAMLS = sorted(path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*.yaml"))
CHOICES = [(path.split("/")[0], Path(path).stem) for path in YAMLS if path.count("/") == 1 and "local" not in path]
PAIRS = [(group, name) for group, name in CHOICES if group == "task_model"]  # chosen by a task and a model together
CHOICES = [choice for choice in CHOICES if choice not in PAIRS and choice[0] not in ("task_solver", "task_network")]
WHOLE = (
    "experiment",
    "grid",
    "search",
    "regularizer",
    "logger",
)  # set others, or are several at once: no object of their own
MEMBERS = [choice for choice in CHOICES if choice[0] not in WHOLE]
SETTING_OTHERS = [choice for choice in CHOICES if choice[0] in WHOLE]
IMAGES = TaskSpec(input_shape=(1, 8, 8), output_shape=(10,))
TEXTS = TaskSpec(input_shape=(4,), output_shape=(4, 3), tokens=3)
SEQUENCES = TaskSpec(input_shape=(5, 4), output_shape=(2,), every_time=True, sequence=True)
SERIES = TaskSpec(input_shape=(5, 4), output_shape=(2,), sequence=True)
KNOWN = TaskSpec(
    input_shape=(2,),
    output_shape=(2,),
    every_time=True,
    field=LotkaVolterraField(1.0, 1.0, 1.0, 1.0),
    series=3,
    whole_series=True,
)
SOLVED = TaskSpec(input_shape=(2,), output_shape=(2,), every_time=True, field=SmallNet(2))


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2))]


def spec_of(cfg: DictConfig) -> TaskSpec:
    """What a task would have to be like for the network and the model chosen."""
    model = target_of(cfg, "model")
    if model.numerics is Numerics.SOLVER and target_of(cfg, "task") is Area:
        return cast(TaskSpec, construct(cfg, "task", seed=0, device=torch.device("cpu")).spec)
    if "recurrent" in cfg.network._target_:
        return SEQUENCES
    if cfg.network._target_.endswith("SequenceNetwork"):
        return SERIES
    if model.to_events or (Answer.PATHS in model.gives and Answer.VALUES not in model.gives):
        return cast(TaskSpec, construct(cfg, "task", seed=0, device=torch.device("cpu")).spec)
    if Answer.TOKENS in model.gives and Answer.VALUES not in model.gives:
        return TEXTS
    return {Numerics.SOLVER: SOLVED, Numerics.EQUATION: KNOWN}.get(target_of(cfg, "model").numerics, IMAGES)


def made(cfg: DictConfig, group: str, request: pytest.FixtureRequest) -> Any:
    """The object of a group, given what it needs at run time."""
    match group:
        case "network":
            return construct(cfg, group, spec_of(cfg))
        case "model":
            return construct(cfg, group, construct(cfg, "network", spec_of(cfg)))
        case "optimizer":
            return construct(cfg, group, weights())
        case "task":
            if issubclass(target_of(cfg, group), FashionMnist | Cifar10):
                pytest.skip("tests/tasks/test_image_files.py writes files in their form")
            if "data_dir" in cfg.task:
                cfg.task.data_dir = str(request.getfixturevalue("mnist_dir"))
            if "cells" in cfg.task:  # a true path is followed in small steps
                cfg.task.update({"train": 24, "validation": 16, "test": 24, "fine": 16})
            if {"points", "window", "train"} <= set(cfg.task):  # trajectories, which take half a second
                cfg.task.update({"train": 4, "validation": 2, "test": 2})
            return construct(cfg, group, seed=0, device=torch.device("cpu"))
    return construct(cfg, group)


@pytest.mark.parametrize("path", YAMLS)
def test_each_yaml_begins_with_a_line_that_says_what_it_is(path: str) -> None:
    lines = (conf_dir() / path).read_text(encoding="utf-8").splitlines()
    header = next(line for line in lines if not line.startswith("# @package"))
    assert re.fullmatch(r"# \S.*[.?]", header), header
    assert len(header) <= 110  # --help prints it beside the name


@pytest.mark.parametrize("path", YAMLS)
def test_yaml_lines_are_no_longer_than_code(path: str) -> None:
    assert max(map(len, (conf_dir() / path).read_text(encoding="utf-8").splitlines())) <= 120


def test_each_folder_is_a_group_that_help_explains() -> None:
    assert {group for group, _ in CHOICES} <= set(GROUPS)


@pytest.mark.parametrize(("group", "name"), MEMBERS, ids=map("=".join, MEMBERS))
def test_each_choice_composes_and_constructs(
    composed: Compose, group: str, name: str, request: pytest.FixtureRequest
) -> None:
    model = named_class("model", name) if group == "model" else None
    home = "area" if model and model.of_series else "thermostat" if model and model.to_events else None
    if model and Answer.PATHS in model.gives and Answer.VALUES not in model.gives:
        home = "ou"
    if model and not home and names_its_network(name):
        home = "digits_tokens"
    cfg = composed(f"task={home}", f"model={name}") if home else composed(f"{group}={name}")
    OmegaConf.to_container(cfg[group], resolve=True)
    made_here = made(cfg, group, request)
    target = target_of(cfg, group)
    assert isinstance(made_here, target) if inspect.isclass(target) else made_here is not None


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("group", "name"), SETTING_OTHERS, ids=map("=".join, SETTING_OTHERS))
def test_what_sets_other_groups_composes_into_what_can_be_made(
    composed: Compose, group: str, name: str, request: pytest.FixtureRequest
) -> None:
    cfg = composed(f"{group}={name}")
    for part in ("solver", "gradient", "trainer", "network", "model", "optimizer", "schedule"):
        made(cfg, part, request)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", [name for _, name in PAIRS])
def test_what_a_model_needs_on_a_task_comes_with_the_two_and_gives_way_to_what_is_typed(
    composed: Compose, name: str
) -> None:
    task = max((task for task in options("task") if name.startswith(f"{task}_")), key=len)  # digits, digits_density
    pair = (f"task={task}", f"model={name.removeprefix(f'{task}_')}")
    own = OmegaConf.load(conf_dir() / "task_model" / f"{name}.yaml")
    cfg = composed(*pair, "trainer.epochs=3")
    assert OmegaConf.merge(cfg, own, {"trainer": {"epochs": 3}}) == cfg
    assert cfg.trainer.epochs == 3


@pytest.mark.parametrize("task", ["mnist", "half_moons", "density2d"])
def test_a_network_that_a_model_names_prevails_over_the_tasks(composed: Compose, task: str) -> None:
    """`task=mnist model=ode_transformer` was refused for convolutions that nobody had typed."""
    assert composed(f"task={task}", "model=ode_transformer").network._target_.endswith(".Transformer")
    assert composed(f"task={task}", "model=ode_transformer", "network=shallow").network._target_.endswith(".MLP")


@pytest.mark.parametrize("task", ["digits_generation", "mnist_generation"])
def test_edm_is_not_sampled_by_equal_steps_in_time(composed: Compose, task: str) -> None:
    """From a noise level of 80 down, eight of them ended 18 units of a pixel away from a fine solve."""
    assert composed(f"task={task}", "model=edm").solver._target_.endswith(".Dopri5")
    assert composed(f"task={task}", "model=edm", "solver=edm_heun").solver._target_.endswith(".EdmHeun")


def test_every_task_lets_a_models_network_prevail() -> None:
    tasks = {path.stem: path.read_text(encoding="utf-8") for path in (conf_dir() / "task").glob("*.yaml")}
    assert [name for name, text in tasks.items() if "override /network" in text] == []
    for path in (conf_dir() / "task_network").glob("*.yaml"):
        assert f"override /network: {path.stem}\n" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=map("=".join, CHOICES))
def test_no_choice_leaves_an_option_unsaid(composed: Compose, group: str, name: str) -> None:
    """Our own constructors have no defaults: every value is in a yaml, where it can be seen and changed."""
    if group in WHOLE:
        pytest.skip("describes no object of its own")
    target = target_of(composed(f"{group}={name}"), group)
    if not target.__module__.startswith("ode_runner."):
        pytest.skip("is torch's")
    hidden = {
        parameter.name
        for parameter in inspect.signature(target).parameters.values()
        if parameter.default is not inspect.Parameter.empty
    }
    unsaid = {
        "norm",
        "first_step",
        "first_steps",
        "exactly",
        "stepping",
        "longest",
        "sought",
    }  # which the program sets and nobody types
    assert hidden <= unsaid | {option.name for option in fields(StepControl)} | {
        "per_sample"
    }  # in the yaml as well, and so in the runs recorded before there was a choice


_members = lru_cache(members)  # no yaml changes meanwhile
_verdicts: dict[tuple[str, ...], str | None] = {}


def verdict(model: type[Model], choices: dict[str, str], composed: Compose) -> str | None:
    """The refusal of a cell, or None where it is accepted; each once, for many a refusal advises the same cells."""
    cell = (choices["model"], choices["solver"], choices["gradient"])
    if cell not in _verdicts:
        solver, gradient = (build(composed, group, choices[group]) for group in ("solver", "gradient"))
        _verdicts[cell] = None
        try:
            with patch("ode_runner.compatibility.members", _members):
                check_compatible(choices, model, solver, gradient)
        except IncompatibleChoice as refusal:
            _verdicts[cell] = str(refusal)
    return _verdicts[cell]


def way_out(sentence: str, choices: dict[str, str]) -> list[dict[str, str]]:
    """What becomes of the choices if one takes the sentence's advice, for each that it gives."""
    advice = sentence.partition("Use ")[2]
    advised: list[dict[str, str]] = []
    for group, names in re.findall(r"(model|solver|gradient)=([\w ,]+?)(?=,? or \w+=|, \w+=|\.|$)", advice):
        for name in re.split(r", | or ", names):
            advised.append(choices | {group: name})
    return advised


@pytest.mark.parametrize("gradient", options("gradient"))
@pytest.mark.parametrize("name", options("model"))
def test_each_cell_is_accepted_or_refused_with_a_way_out(composed: Compose, name: str, gradient: str) -> None:
    """All solvers in one test: a verdict takes a tenth of what a test does."""
    for solver in options("solver"):
        choices = {"model": name, "solver": solver, "gradient": gradient}
        sentence = verdict(model_class(composed, name), choices, composed)
        if sentence is not None:
            assert_shows_a_way_out(sentence, choices, composed)


def assert_shows_a_way_out(sentence: str, choices: dict[str, str], composed: Compose) -> None:
    """The refusal says what was typed, and some of what it advises is accepted, or refused for another reason."""
    cell = f"{choices}: {sentence}"
    assert any(f"{group}={chosen}" in sentence.partition("Use ")[0] for group, chosen in choices.items()), cell
    advised = way_out(sentence, choices)
    assert advised, cell
    for better in advised:
        assert all(better[group] in options(group) for group in better), cell
    verdicts = [verdict(model_class(composed, better["model"]), better, composed) for better in advised]
    assert None in verdicts or all(second != sentence for second in verdicts), cell


_models: dict[str, type[Model]] = {}


def model_class(composed: Compose, name: str) -> type[Model]:
    if name not in _models:
        _models[name] = target_of(composed(f"model={name}"), "model")
    return _models[name]


@pytest.mark.parametrize("name", options("model"))
def test_the_solver_a_model_comes_with_is_one_it_takes(composed: Compose, name: str) -> None:
    cfg = composed(f"model={name}")
    choices = dict(cfg.hydra.runtime.choices)
    check_compatible(choices, target_of(cfg, "model"), construct(cfg, "solver"), construct(cfg, "gradient"))


@pytest.mark.parametrize("solver", options("solver"))
def test_models_of_any_numerics_take_every_solver(composed: Compose, solver: str) -> None:
    classes = {name: model_class(composed, name) for name in options("model")}
    taking = [name for name, made in classes.items() if made.numerics is Numerics.ANY and made.objective.solves]
    for gradient in options("gradient"):
        refusals = {
            verdict(model_class(composed, name), {"model": name, "solver": solver, "gradient": gradient}, composed)
            for name in taking
        }
        assert len(refusals) == 1, gradient  # they agree: what is refused is the pair of solver and gradient mode


@pytest.mark.parametrize("name", offering(AdaptiveSolver))
def test_one_tolerance_sets_every_adaptive_solver(composed: Compose, name: str) -> None:
    cfg = composed(f"solver={name}", "tolerance=1e-7")
    assert (cfg.solver.rtol, cfg.solver.atol) == (1e-7, 1e-7)
    assert composed(f"solver={name}", "tolerance=1e-7", "solver.rtol=1e-2").solver.rtol == 1e-2
