"""A search whose trials would have no objective, or not the same one, is refused before its first trial."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ode_runner.errors import RefusedInput
from ode_runner.sweeps.rankable import check_rankable, check_same_data, kinds_of_trials
from tests.composition import composition
from tests.helpers import typed

DENSITY = ("task=density2d", "task.name=8gaussians_narrow", "task.train=40", "task.validation=20", "task.test=20")
MOONS = ("task=half_moons",)


def objectives_of(words: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    by_key = {one.get_key_element(): one for one in OverridesParser.create().parse_overrides(list(words))}
    kinds = kinds_of_trials(by_key, lambda each: composition(*each))
    return [one.name for one in check_rankable(kinds, names, builds=True)]


@pytest.mark.slow  # together; one of them is quick below
@pytest.mark.parametrize(
    ("words", "names", "refusal"),
    [
        ((*DENSITY, "model=consistency", "seed=0,1"), ("objective",), "eval/loss of model=consistency compares"),
        ((*DENSITY, "model=consistency", "seed=0,1"), ("nfe", "eval/loss"), "eval/loss of model=consistency compares"),
        ((*DENSITY, "model=rectified_flow", "seed=0,1"), ("objective",), "pairs that each run makes itself"),
        ((*DENSITY, "model=diffusion", "model.head=v,x0"), ("objective",), "error of v .* and is .* error of x0 .*=x0"),
        ((*DENSITY, "model=edm", "model.log_std=interval(1,2)"), ("objective",), "log_std=1 .* and is .* log_std=2 "),
        ((*DENSITY, "model=flow_matching,edm"), ("objective",), "the velocity .* model=flow_matching and .* model=edm"),
        ((*DENSITY, "model=edm,cnf"), ("objective",), "the objective is eval/loss with .* is eval/nll with model=cnf"),
        ((*DENSITY, "model=coupling_flow", "seed=0,1"), ("objective", "nfe"), r"no nfe\. Use .*=\[objective\], or"),
        ((*MOONS, "model=odenet,resnet"), ("cost/nfe_forward", "eval/loss"), r"resnet .* Use .*=\[eval/loss\], or"),
        (("task=linear", "model=exact", "solver=euler,rk4"), ("objective",), "learns nothing, .* no eval/rmse"),
        (("task=linear", "model=exact", "solver=euler,rk4"), ("nfe",), "learns nothing, and so has no nfe"),
        ((*MOONS, "seed=0,1"), ("objective", "eval/accuracy"), "names eval/accuracy twice"),
    ],
)  # fmt: skip
def test_trials_without_a_common_objective_are_refused(
    words: tuple[str, ...], names: tuple[str, ...], refusal: str
) -> None:
    with pytest.raises(RefusedInput, match=refusal):
        objectives_of(words, names)


def test_a_loss_of_another_quantity_is_refused() -> None:
    with pytest.raises(RefusedInput, match="eval/loss is the task's own with model=cnf and is the squared error of"):
        objectives_of((*DENSITY, "model=cnf,edm"), ("eval/loss",))


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((*DENSITY, "model=diffusion", "solver=heun,rk4", "optimizer.lr=interval(1e-3,1e-2)"), ("eval/loss",)),
        ((*DENSITY, "model=consistency", "model.levels=4,18"), ("nfe",)),
        ((*MOONS, "model=odenet,resnet", "solver.num_steps=1,2"), ("eval/accuracy",)),
        (("task=linear", "model=odenet,exact", "seed=0,1"), ("nfe/eval",)),
    ],
)
def test_trials_with_a_common_objective_are_not(words: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert objectives_of(words, names) == list(names)


@pytest.mark.parametrize("error", [RuntimeError("not today"), SystemExit(3)], ids=str)
def test_trials_that_fail_are_left_to_the_search(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*positional: object, **named: object) -> object:
        raise error

    monkeypatch.setattr("ode_runner.sweeps.rankable.build_experiment", fails)
    monkeypatch.setattr("ode_runner.sweeps.rankable.DryRun.of", fails)
    assert objectives_of((*DENSITY, "model=diffusion", "model.head=v,x0"), ("objective",)) == ["eval/loss"]
    assert objectives_of((*MOONS, "model=odenet,resnet"), ("nfe",)) == ["nfe"]


@pytest.mark.slow
def test_a_kind_for_each_value_on_which_the_meaning_of_a_loss_may_depend() -> None:
    words = ["task=density2d", "model=edm,diffusion", "model.log_std=interval(1,2)", "solver=rk4,heun"]
    by_key = {one.get_key_element(): one for one in OverridesParser.create().parse_overrides(words)}
    kinds = kinds_of_trials(by_key, lambda each: composition(*each))
    assert [str(kind) for kind in kinds] == ["model=edm model.log_std=1.0", "model=edm model.log_std=2.0"]
    assert {kind.choices["solver"] for kind in kinds} == {"rk4"}, "diffusion has no such option"


def test_trials_have_the_same_data() -> None:
    check_same_data(["task.train", "seed", "model.head"])
    with pytest.raises(RefusedInput, match="same data, and task.name makes other data"):
        check_same_data(["task.train", "task.name"])


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["true", "false"])
def test_a_search_in_vain_is_refused_in_a_line_before_it_begins(plan: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs optuna: pip install 'ode-run[search]'")
    ended = typed("search=half_moons", "model=resnet", f"plan={plan}", cwd=tmp_path)
    assert ended.returncode == 2
    assert "model=resnet evaluates no field, and so has no nfe" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
