"""An option that changes nothing beside the others as they are is named at the beginning of a run, with the reason."""

from pathlib import Path

import pytest

from ode_runner.build import build_experiment
from ode_runner.config.unread_options import untrained_words
from ode_runner.training.unused_options import unused_options
from tests.conftest import Compose
from tests.helpers import TINY, options, typed

QUICK = ("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)
PLANE = (*QUICK, "task=density2d", "task.grid=20")
PATHS = (*QUICK, "task=ou", "task.points=5", "task.fine=32", "task.horizon=0.5", "model=sde")
CHAIN = ("trainer=quick", "logger=none", "task=ctmc", "task.paths=20")
SERIES = (*QUICK, "task=chirality")
TABLE = ("trainer=quick", "trainer.max_steps=1", "logger=none", "task=tabular_density", "model=coupling_flow")
IDLE = {  # what is typed: the clause, and an option beside which it is read
    (*PLANE, "model=cnf", "model.noise=normal"): ("model.trace=exact draws none", "model.trace=hutchinson"),
    (*PLANE, "model=flow_matching", "model.hidden=0.2"): ("the task gives no conditions", "task.conditional=true"),
    (*PLANE, "model=diffusion", "solver=edm_heun", "solver.s_noise=1.1"): ("solver.s_churn=0", "solver.s_churn=5"),
    (*PLANE, "model=consistency", "solver.grid=time"): (
        "solver.num_steps=1 has no levels between",
        "solver.num_steps=2",
    ),
    (*PATHS, "task.noise=0.2"): ("task.sequence=false", ""),
    (*PATHS, "model.diffusion=constant", "model.width=8"): ("model.diffusion=constant", "model.diffusion=elementwise"),
    (*QUICK, "task=sequence_sort", "network=transformer", "network.patch=2"): ("the inputs are no images", ""),
    (*QUICK, "task=sequence_sort", "model=resnet", "network=transformer", "network.time=false"): (
        "layers do not receive the time",
        "model=odenet",
    ),
    (*QUICK, "model=resnet", "trainer.max_nfe=200"): ("nothing is solved", "model=odenet"),
    (*QUICK, "solver=explicit_adams", "solver.rtol=0.01"): ("explicit_adams has no corrector", ""),
    (*CHAIN, "solver=gillespie", "solver.num_steps=8"): ("rates are steady, and jumps exact", ""),
    (*SERIES, "model=gru_gaps", "network.width=7"): ("there is no field", "model=odernn"),
    (*TABLE, "task.grid=7"): ("the mass is summed up of one or two columns", ""),
    (*QUICK, "solver=mccallum_foster", "solver.base.num_steps=7"): (
        "the grid is the coupling's, by solver.num_steps",
        "",
    ),
    (*QUICK, "schedule=one_cycle", "schedule.base_momentum=0.5"): (
        "schedule.cycle_momentum=false",
        "schedule.cycle_momentum=true",
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("words", IDLE, ids=lambda words: words[-1])
def test_an_option_that_nothing_reads_is_named_with_the_reason(words: tuple[str, ...], tmp_path: Path) -> None:
    reason, read = IDLE[words]
    clause = f"{words[-1]} is not used: {reason}"
    ended = typed(*words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert clause in ended.stdout.splitlines()
    if read:
        assert "is not used" not in typed(*words, read, cwd=tmp_path).stdout


def test_how_to_train_is_told_to_be_of_no_use_where_nothing_is_learned(tmp_path: Path) -> None:
    words = ["optimizer.lr=0.5", "+schedule.warmup=0.1", "trainer.max_steps=3", "trainer.ema=null"]
    assert list(untrained_words([*words, "trainer.eval_batch_size=7", "optimizer=sgd"])) == [
        f"{word} is not used: nothing is learned" for word in (*words[:3], "optimizer=sgd")
    ]
    ended = typed("task=closed_form", "model=exact", "optimizer.lr=0.5", "logger=none", cwd=tmp_path)
    assert "optimizer.lr=0.5 is not used: nothing is learned" in ended.stdout.splitlines()
    assert "not used" not in typed(*PLANE, "model=cnf", "optimizer.lr=0.5", cwd=tmp_path).stdout


def test_only_options_that_exist_and_differ_from_their_default_are_named(composed: Compose) -> None:
    cfg = composed("task=ou", "model=sde", "task.train=4", "task.validation=2", "task.test=2", "task.fine=32")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    assert set(experiment.task.unused_options()) == {"noise", "kl_epochs"} < set(cfg.task)
    groups = ("task", "model", "network", "solver", "schedule", "optimizer")
    choices = {group: str(cfg.hydra.runtime.choices[group]) for group in groups}
    assert choices["schedule"] in options("schedule")
    config = {group: {**cfg[group]} for group in choices}
    assert list(unused_options(experiment, None, choices=choices, config=config)) == []


def test_milestones_that_a_run_never_reaches_are_named(tmp_path: Path) -> None:
    words = (*QUICK, "trainer.max_steps=null", "trainer.epochs=2", "schedule=steps")
    said = "schedule.milestones=[60,100,140] are beyond the run's 2 epochs: the rate stays"
    assert said in typed(*words, cwd=tmp_path).stdout.splitlines()
    assert "milestones" not in typed(*words, "schedule.milestones=[1,60]", cwd=tmp_path).stdout.partition("loss")[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("solver=euler", "tolerance=1e-6"), "tolerance=1e-6 is not used: steps are fixed, and solver.num_steps says"),
        (
            ("solver=euler", "solver.step_size=0.5", "tolerance=1e-6"),
            "steps are fixed, and solver.step_size says how long",
        ),
        (("solver=euler", "per_sample=true"), "per_sample=true is not used: steps are fixed"),
        (("model=resnet", "tolerance=1e-6"), "tolerance=1e-6 is not used: nothing is solved"),
        (("solver=dopri5", "tolerance=1e-2"), ""),
        (("solver=dopri5", "per_sample=true"), ""),
    ],
)
def test_a_tolerance_that_no_solver_reads_is_named(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ended = typed(*QUICK, *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert said in ended.stdout
    assert said or "is not used" not in ended.stdout
