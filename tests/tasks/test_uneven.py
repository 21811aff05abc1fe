"""Samples with different numbers of observations: a mean over a split is that over all its observations."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ode_runner.batch import Split
from ode_runner.build import build_experiment
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Means
from ode_runner.experiment.signals import StopRequest
from ode_runner.training.training_problems import training_problems
from tests.composition import Compose
from tests.helpers import check_refused

FP64 = ("trainer.precision=fp64", "trainer.device=cpu", "network.width=4")
EXACT = (*FP64, "solver=rk4", "solver.num_steps=2")

TIGHT = ("solver.rtol=1e-8", "solver.atol=1e-8")


@pytest.fixture
def uneven(tmp_path: Path) -> tuple[str, ...]:
    """Words of a task of series with 4, 7 and 10 rows, and with blanks."""
    rows = [
        f"{s},{i},{math.sin(i + s)},{'' if (i + s) % 4 == 1 else i * s},{s % 2}"
        for s in range(9)
        for i in range(4 + 3 * (s % 3))
    ]
    file = tmp_path / "uneven.csv"
    file.write_text("series,t,x,y,z\n" + "\n".join(rows) + "\n")
    return (
        "task=series",
        f"task.file={file}",
        "task.time=t",
        "task.series=series",
        "task.split=series",
        "task.test=0.5",
        "task.values=[x,y]",
    )


def built(composed: Compose, *words: str) -> Experiment:
    cfg = composed(*words)
    return build_experiment(cfg, cfg.hydra.runtime.choices)


def measured(experiment: Experiment, split: Split, batch_size: int) -> dict[str, float]:
    """Means over a split, in batches of this size, without evaluations: there are more where batches are unlike."""
    options = replace(experiment.options, eval_batch_size=batch_size)
    found = replace(experiment, options=options).evaluate(split, StopRequest())
    return {name: value for name, value in found.items() if not name.startswith("nfe")}


PRICED = ("regularizer=[kinetic,jacobian,smooth_states]",)
CELLS = {  # of samples with different numbers of observations, or at different times
    "series": ("task=series", *PRICED),
    "rows held back": ("task=series", "task.window=3", *PRICED),
    "forecasts": ("task=series_forecast", "task.window=4", *PRICED),
    "forecasts of rows": ("task=series_forecast", "task.window=4", "model=odernn", *PRICED),
    "controlled": ("task=series_forecast", "task.window=4", "model=cde", "regularizer=kinetic"),
    "classes": ("task=series_classes", "task.label=z", "task.values=[x,y]", "model=cde", *PRICED),
    "stacked": ("task=series", "model=stacked", *PRICED),
    "irregular times": (
        *("task=lotka_volterra", "task.irregular=true", "task.train=3", "task.validation=5", "task.test=5"),
        *("task.points=6", "task.window=4", "task.horizon=3", *PRICED),
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_reported_does_not_depend_on_the_size_of_batches(
    cell: str, split: Split, uneven: tuple[str, ...], composed: Compose
) -> None:
    own = CELLS[cell]
    typed = {word.partition("=")[0] for word in own}
    of_file = () if cell == "irregular times" else uneven[:4] if cell in ("classes", "rows held back") else uneven
    data = [word for word in of_file if word.partition("=")[0] not in typed]
    of_rows = {"model=odernn", "model=cde"} & {*own}  # whose fixed steps end on every row
    experiment = built(composed, *data, *own, *FP64, *(() if of_rows else ("solver=dopri5", *TIGHT)))
    parts, whole = measured(experiment, split, 2), measured(experiment, split, 100)
    assert parts.keys() >= {"loss"}
    assert parts == pytest.approx(whole, rel=1e-5)


def test_whole_batches_of_uneven_samples_are_trained_on(uneven: tuple[str, ...], composed: Compose) -> None:
    """What trainer.compile and gradient=forward look at before training is not taken apart, and so not refused."""
    [problem] = training_problems(built(composed, *uneven, *EXACT))
    assert len(problem.y0) > 1


def test_errors_and_the_loss_of_events_do_not_depend_on_the_size_of_batches(composed: Compose) -> None:
    words = ("task=bouncing_ball", "task.test=5", "trainer.precision=fp64", "trainer.device=cpu", *TIGHT)
    experiment = built(composed, *words)
    parts, whole = (measured(experiment, Split.TEST, size) for size in (2, 100))
    assert parts == pytest.approx(whole, rel=1e-6)
    batch = next(experiment.task.batches(Split.TEST, batch_size=100, epoch=0))
    assert whole["loss"] == pytest.approx(experiment.loss(batch).total.item(), rel=1e-12)
    assert not [name for name in whole if name.startswith("mse")], "what the loss is corrected by is not reported"


def test_a_batch_without_a_number_of_some_name_counts_nothing_for_it() -> None:
    means = Means()
    means.add({"loss": 1.0, "rate": 5.0}, weight=2, own={"loss": 3})
    means.add({"loss": math.nan, "rate": 2.0}, weight=1, own={"loss": 0})
    assert means.read() == {"loss": 1.0, "rate": 4.0}
    means.add({"loss": 5.0}, own={"loss": 1})
    assert means.take()["loss"] == 2.0
    means.add({"loss": math.nan}, own={"loss": 0})
    assert math.isnan(means.read()["loss"])


def test_several_processes_refuse_batches_whose_mean_is_not_that_of_their_shares(
    uneven: tuple[str, ...], tmp_path: Path
) -> None:
    two: Any = ("processes=2", "oversubscribe=true", "trainer.device=cpu")
    check_refused(*two, *uneven, sentence="processes=2 takes the mean over a batch from its parts", cwd=tmp_path)
    check_refused(*two, "task=bouncing_ball", sentence="different numbers of", cwd=tmp_path)
