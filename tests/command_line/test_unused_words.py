"""What has no effect is refused by name, and a choice goes by one name."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ode_runner.config.unused_words import check_plain_names, check_sweepable, check_words_used
from ode_runner.errors import RefusedInput
from tests.helpers import TINY, typed

QUICK = ("trainer=quick", "trainer.max_steps=1", "model=resnet", "logger=none", *TINY)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sweep=mine", "sweep=mine is for several runs. Add -m"),
        ("hydra.launcher.n_jobs=4", "hydra.launcher.n_jobs=4 is for several runs. Add -m"),
        ("hydra/launcher=local seed=0", "hydra/launcher=local is for several runs. Add -m"),
        ("hydra.sweep.dir=here", "hydra.sweep.dir=here is for several runs. Add -m"),
        ("-m hydra.run.dir=here", "hydra.run.dir=here is for a single run. Name the folder of a sweep by sweep=NAME"),
        ("+hydra.nope=1", "no option 'hydra.nope'. Did you mean 'hydra.mode'? Available: hydra.defaults, "),
        ("+hydra.rn.dir=1", "no option 'hydra.rn.dir'. Did you mean 'hydra.run'?"),
        ("++hydra.job.nme=1", "no option 'hydra.job.nme'. Did you mean 'hydra.job.name'?"),
        ("hydra.nope=1", "no option 'hydra.nope'."),
        ("+experiment.nope=1", "+experiment.nope=1: experiment is chosen by its name"),
        ("+grid.params=1", "+grid.params=1: grid is chosen by its name"),
        ("times=[0,1]", "times=[0,1] is for predict=RUN_FOLDER. Leave it out."),
        ("evaluate=run times=0:1:5", "times=0:1:5 is for predict=RUN_FOLDER"),
        ("audit=true inputs=[[1,2]]", "inputs=[[1,2]] is for predict=RUN_FOLDER"),
        ("predict=null inputs=[[1,2]]", "inputs=[[1,2]] is for predict=RUN_FOLDER"),
        ("recipe=mine", "recipe=mine: a recipe is read from the file of its experiment"),
        ("evaluate=run rerun=all", "rerun=all is for runs that train. Leave it out with evaluate, predict, "),
        ("-m evaluate=run solver=rk4,euler sweep=mine", "sweep=mine is for runs that train"),
        ("task=digits task=mnist", "task is typed twice, as task=digits and as task=mnist. Leave one of them out."),
        ("-m +optimizer.eps=1,2 ++optimizer.eps=3", "optimizer.eps is typed twice"),
        ("-cd mine --config-dir=other seed=1", "--config-dir is typed twice, as -cd mine and as --config-dir=other"),
    ],
)
def test_a_word_without_effect_is_refused(command: str, says: str) -> None:
    with pytest.raises(RefusedInput) as refused:
        check_words_used(command.split())
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    "command",
    [
        "-m sweep=mine rerun=all hydra/launcher=local hydra.launcher.n_jobs=2 +hydra.launcher.verbose=1",
        "grid=solvers sweep=mine",
        "hydra.run.dir=here +hydra.job.env_set.NAME=1 hydra.searchpath=[file://here] hydra.verbose=true",
        "+hydra.job_logging.root.level=INFO +hydra.callbacks.mine._target_=mine.Callback hydra.output_subdir=null",
        "predict=run times=[0,1] inputs=[[1,2]]",
        "times=null evaluate=run",
        "seed=1 -cd conf seed=1 -cd conf solver@solver.base=rk4 solver=rk4",
        "search=digits hydra.sweeper.trials=3 hydra.sweeper.objectives=[objective]",
    ],
)
def test_a_word_that_is_read_passes(command: str) -> None:
    check_words_used(command.split())


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("plan=true,false", "plan=true,false: plan is the same for all cells of a sweep. Type one value."),
        ("rerun=all,missing", "rerun=all,missing: rerun is the same"),
        ("sweep=a,b", "sweep=a,b: sweep is the same"),
        ("output_dir=a,b", "output_dir=a,b: output_dir is the same"),
        ("processes=1,2", "processes=1,2: processes is the same"),
        ("logger=none,tensorboard", "logger=none,tensorboard: logger is the same"),
        ("times=choice([0,1],[0,2])", "times=choice([0,1],[0,2]): times is the same"),
        ("grid=solvers,models", "grid=solvers,models: grid is the same"),
        ("hydra.launcher.n_jobs=1,2", "hydra.launcher.n_jobs=1,2: hydra.launcher.n_jobs is the same"),
        ("hydra/launcher=local,basic", "hydra/launcher=local,basic: hydra/launcher is the same"),
        ("+logger.x=1,2", "+logger.x=1,2: "),
        ("seed=range(0)", "seed=range(0) names no value, so there would be nothing to run."),
        ("seed=range(5,5)", "seed=range(5,5) names no value"),
    ],
)
def test_only_what_parts_the_cells_is_swept(word: str, says: str) -> None:
    override = OverridesParser.create().parse_override(word)
    with pytest.raises(RefusedInput) as refused:
        check_sweepable({override.get_key_element(): override})
    assert str(refused.value).startswith(says)


def test_what_parts_the_cells_may_be_swept() -> None:
    words = (
        "seed=0,1",
        "tolerance=1e-3,1e-4",
        "solver=rk4,euler",
        "solver.num_steps=range(1,3)",
        "seed=0",
        "rerun=all",
    )
    words += ("optimizer.lr=interval(0,1)",)
    overrides = OverridesParser.create().parse_overrides(list(words))
    check_sweepable({str(i): override for i, override in enumerate(overrides)})


@pytest.mark.parametrize(
    ("group", "name", "plain"),
    [
        ("solver", "tsit5.yaml", "tsit5"),
        ("solver", "tsit5.yml", "tsit5"),
        ("network", "./mlp", "mlp"),
        ("network", "/mlp", "mlp"),
        ("network", "mlp/", "mlp"),
        ("network", "../network/mlp", "mlp"),
        ("network", "control/../mlp", "mlp"),
        ("solver@solver.base", "./rk4.yaml", "rk4"),
    ],
)
def test_another_name_of_a_choice_is_refused_with_its_own(group: str, name: str, plain: str) -> None:
    with pytest.raises(RefusedInput, match=f"is another name of {group}={plain}. Type that."):
        check_plain_names({group: name, "task": "digits"})
    check_plain_names({group: plain, "experiment": None, "model": "mine/large", "hydra/launcher": "basic"})


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "words",
    [
        ("solver=tsit5.yaml",),
        ("-m", "network=mlp,./mlp"),
        ("-m", "seed=range(0)"),
        ("-m", "solver=glob(zz*)"),
        ("-m", "plan=true,false"),
        ("-m", "sweep=.."),
        ("-m", "sweep=a/b"),
        ("-m", "sweep=[a]"),
        ("+hydra.nope=1",),
        ("-m", "hydra/sweeper=search", "seed=range(0)"),
    ],
)
def test_it_is_refused_in_a_line_and_leaves_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = typed(*QUICK, *words, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("ode-run: ")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*"))
