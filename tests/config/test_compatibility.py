"""What a task needs of an answer and a model gives: checked by class, before any data are made."""

import re
from pathlib import Path

import pytest

from ode_runner.batch import Answer
from ode_runner.building.members import members, naming
from ode_runner.compatibility import check_compatible
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.base import Model, Numerics
from ode_runner.models.density import DensityModel
from ode_runner.models.depth.odenet import ODENet
from ode_runner.models.equations.exact import Exact
from ode_runner.models.equations.hybrid import Hybrid
from ode_runner.models.generators.consistency import Consistency
from ode_runner.models.generators.path_model import PathModel
from ode_runner.networks.base import Network
from tests.composition import Compose
from tests.helpers import options, run_folders, typed
from tests.problems import build, named_class

OWN = """
from ode_runner.batch import Answer
from ode_runner.models.base import Model, Numerics
from ode_runner.tasks.base import Task


class Density(Task):
    needs = frozenset({Answer.LOG_DENSITY, Answer.SAMPLES})

    def __init__(self, *, seed, device):
        raise AssertionError("no data are made")

    size = batches = loss = metrics = figures = None


class Curves(Density):
    needs = frozenset({Answer.VALUES, Answer.STATES})


class Flow(Model):
    numerics, gives = Numerics.ANY, frozenset({Answer.LOG_DENSITY, Answer.SAMPLES, Answer.STATES})
    evolve = None


class Sampler(Flow):
    gives = frozenset({Answer.SAMPLES})
"""
TASK = "# @package _global_\n# Mine.\ntask:\n  _target_: own_answers.{}\ntrainer:\n  epochs: 1\n  batch_size: 2\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_answers.py").write_text(OWN)
    for group, name, content in (
        ("model", "flow", "_target_: own_answers.Flow\n"),
        ("model", "sampler", "_target_: own_answers.Sampler\n"),
        ("model", "broken", "_target_: own_answers.Missing\n"),
        ("task", "density", TASK.format("Density")),
        ("task", "curves", TASK.format("Curves")),
    ):
        path = tmp_path / "conf" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def able(*needs: Answer, own: tuple[str, ...] = ()) -> str:
    """The built-in models that give this and one's own, as listed; none of series, events or a given distribution."""
    models = {name: named_class("model", name) for name in options("model")}
    models = {name: model for name, model in models.items() if name not in ("hybrid", "exact", "parametric")}
    fitting = {
        name for name, model in models.items() if issubclass(Network, model.network_type) and not model.of_images
    }
    built_in = [name for name in models if name in fitting and {*needs} <= models[name].answers()]
    *names, last = [*built_in, *own]
    return f"{', '.join(names)} or {last}"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("task=density", "model=odenet"),
            "task=density asks for a log density and samples, and model=odenet gives values only. "
            f"Use model={able(Answer.LOG_DENSITY, Answer.SAMPLES, own=('flow',))}.",
        ),
        (
            ("task=density", "model=sampler"),
            "task=density asks for a log density and samples, and model=sampler gives samples only. "
            f"Use model={able(Answer.LOG_DENSITY, Answer.SAMPLES, own=('flow',))}.",
        ),
        (
            ("task=half_moons", "model=flow"),
            "task=half_moons asks for values, and model=flow gives a log density and samples only. "
            f"Use model={able(Answer.VALUES)}.",
        ),
        (
            ("task=curves", "model=resnet"),
            "task=curves asks for values and states at any time, and model=resnet gives values only. "
            f"Use model={able(Answer.VALUES, Answer.STATES)}.",
        ),
    ],
    ids=" ".join,
)
def test_a_pair_that_cannot_mean_anything_is_refused_with_those_that_can(
    words: tuple[str, ...], sentence: str, own: Path
) -> None:
    ended = typed("-cd", "conf", *words, cwd=own)
    assert (ended.returncode, ended.stderr) == (2, f"ode-run: {sentence}\n")
    assert run_folders(own) == []


def test_such_a_cell_of_a_sweep_is_incompatible(own: Path) -> None:
    quick = ("trainer=quick", "trainer.max_steps=1", "task.train=20", "task.validation=20", "task.test=20")
    ended = typed("-m", "-cd", "conf", "model=resnet,flow", *quick, "logger=none", cwd=own)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "gives a log density and samples only" in ended.stderr
    assert [folder.name.partition("-")[0] for folder in run_folders(own)] == ["flow", "resnet"]


@pytest.mark.parametrize("name", options("model"))
def test_every_model_gives_values_or_a_density_and_those_with_a_solve_states_between(name: str) -> None:
    model = members("model")[name]
    assert issubclass(model, Model)
    answers = {Answer.LOG_DENSITY, Answer.SAMPLES} if issubclass(model, DensityModel) else {Answer.VALUES}
    if issubclass(model, Exact):  # the truth of whatever the task asks
        answers = {
            *(Answer.LOG_DENSITY, Answer.VALUES, Answer.TRUTH, Answer.EQUATION),
            *(Answer.EVENTS, Answer.PATHS, Answer.TOKENS),
        }
    elif Answer.EQUATION in model.gives:
        answers = {Answer.VALUES, Answer.EQUATION}
    elif Answer.PATHS in model.gives:
        answers = {Answer.PATHS}
    if issubclass(model, Hybrid):
        answers = {Answer.VALUES, Answer.EVENTS}
    if issubclass(model, PathModel):
        answers = {Answer.LOG_DENSITY, Answer.SAMPLES}
    if issubclass(model, Consistency):  # which jumps, and has no states between
        assert model.answers() == {Answer.SAMPLES}
        return
    if Answer.TOKENS in model.gives and not issubclass(model, Exact):  # of texts, which have no states between
        assert model.answers() == {Answer.TOKENS}
        return
    assert model.answers() == answers | (set() if model.numerics is Numerics.NONE else {Answer.STATES})


def test_nothing_is_named_where_nothing_is_able() -> None:
    assert naming("model", members("model"), lambda model: False) == ""
    assert naming("model", members("model"), lambda model: model.numerics is Numerics.DISCRETE) == "model=rknet"


@pytest.mark.parametrize("gradient", options("gradient"))
def test_what_is_to_be_typed_instead_of_a_mode_and_a_solver_goes_together(gradient: str, composed: Compose) -> None:
    """Of one solver of each kind; those of special fields go with no mode here, and have the mode's own example."""
    mode = build(composed, "gradient", gradient)
    for name in {solver.kind: name for name, solver in members("solver").items()}.values():  # type: ignore[attr-defined]
        solver = build(composed, "solver", name)
        if mode.takes(type(solver)):
            continue
        with pytest.raises(IncompatibleChoice) as refusal:
            check_compatible({"solver": name, "gradient": gradient, "model": "odenet"}, ODENet, solver, mode)
        ways = re.findall(r"(solver|gradient)=(\w+)", str(refusal.value).rpartition("Use ")[2])
        assert ways, str(refusal.value)
        for group, other in ways:
            pair = {"solver": solver, "gradient": mode} | {group: build(composed, group, other)}
            assert pair["gradient"].takes(type(pair["solver"])), f"{refusal.value} -> {group}={other}"
