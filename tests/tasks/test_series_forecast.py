"""Series of files that are read in part and forecast: windows, what is judged, and forecasts in the file's units."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Normal

import ode_runner as ode
from ode_runner.batch import Batch, Outputs, Split
from ode_runner.building.instantiate import construct
from ode_runner.commands.forecast import together
from ode_runner.errors import RefusedInput
from ode_runner.networks.recognition import Recognition
from ode_runner.tasks.forecasting import Forecast
from ode_runner.tasks.series.series_forecast import SeriesForecast
from ode_runner.tasks.series.series_readings import rows_up_to
from tests.helpers import predicted, record_of, run_folder, typed
from tests.problems import Compose

CPU = torch.device("cpu")
COLUMNS = {"series": "id", "time": "t"}


def text_of(series: dict[str, int], *, seed: int = 0) -> str:
    """Turning points, each of `series` with so many rows at random times; the first x of each is blank."""
    rng = np.random.default_rng(seed)
    lines = ["id,t,x,y"]
    for name, rows in series.items():
        turn, phase = rng.choice([-1, 1]), rng.uniform(0, 6)
        for i, t in enumerate(np.cumsum(rng.exponential(0.5, rows)) + 100):
            x = "" if i == 0 else f"{50 + 10 * math.cos(phase + turn * t)}"
            lines.append(f"{name},{t},{x},{math.sin(phase + turn * t)}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def made(composed: Compose, tmp_path: Path) -> Callable[..., SeriesForecast]:
    def task(text: str | None = None, **options: Any) -> SeriesForecast:
        (path := tmp_path / "data.csv").write_text(text or text_of({"a": 10, "b": 9}))
        cfg = composed("task=series_forecast")
        small = {"window": 4, "validation": 0.2, "test": 0.2}
        cfg.task.update({"file": str(path), **COLUMNS, **small} | options)
        return construct(cfg, "task", seed=0, device=CPU)

    return task


def only(task: SeriesForecast, split: Split) -> Batch:
    [batch] = task.batches(split, batch_size=1000, epoch=0)
    return batch


def test_the_first_rows_of_a_window_are_read_and_all_are_asked_for(made: Callable[..., SeriesForecast]) -> None:
    task = made()
    assert task.size(Split.TRAIN) == 3 + 2  # windows of 4 among 6 and 5 rows
    batch = only(task, Split.TRAIN)
    assert batch.inputs.shape == (5, 2, 4)  # two rows of x, y, their time, and 1
    assert batch.inputs[..., -1].eq(1).all()
    assert (batch.inputs[:, 0, -2] == 0).all()
    assert batch.inputs[..., 0].isnan().sum() == 2  # the blank at the beginning of either series
    asked, read = task._masks(batch)
    assert (int(asked.sum()), int(read.sum())) == (5 * 2 * 2, 5 * 2 * 2 - 2)


def test_rows_that_are_held_back_are_forecast_from_those_before_them(made: Callable[..., SeriesForecast]) -> None:
    task = made()
    pieces = task.reading.pieces(Split.TEST)
    assert [(p.begin, p.scored, p.stop) for p in pieces] == [(6, 8, 10), (5, 7, 9)]
    batch = only(task, Split.TEST)
    asked, _ = task._masks(batch)
    assert int(asked.sum()) == 8
    said = task.scales.restored(batch.targets)[asked.all(dim=-1)]
    kept = np.concatenate([one.values[-2:] for one in task.recorded])
    assert sorted(said[:, 0].tolist()) == pytest.approx(sorted(kept[:, 0]))


def test_each_row_of_a_series_held_back_is_forecast_once(
    made: Callable[..., SeriesForecast],
) -> None:
    task = made(text_of(dict.fromkeys("abcde", 10)), split="series")
    [number] = task.splits.parts[Split.TEST]
    cut = [(p.series, p.begin, p.scored, p.stop) for p in task.reading.pieces(Split.TEST)]
    assert cut == [(number, i, i + 2, i + 4) for i in (0, 2, 4, 6)]
    whole = made(text_of(dict.fromkeys("abcde", 10)), split="series", window=None, observed=0.7)
    assert [(p.begin, p.scored, p.stop) for p in whole.reading.pieces(Split.TEST)] == [(0, 7, 10)]
    assert (task.size(Split.TRAIN), whole.size(Split.TRAIN)) == (21, 3)  # all windows, and each series once
    many = made(text_of({"a": 200}), split="time", window=8)
    assert many.size(Split.TRAIN) == 32
    assert {len(batch.inputs) for batch in many.batches(Split.TRAIN, batch_size=16, epoch=0)} == {16}
    long = made(text_of({"a": 1000}), split="time", window=8)
    assert long.size(Split.TRAIN) == 2 * 600 / 8


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_asked_for_is_not_given(made: Callable[..., SeriesForecast], causal: bool) -> None:
    one = made(causal=causal)
    batch = only(one, Split.TRAIN)
    values = batch.inputs[..., :-2]
    for place in range(len(values)):
        later = values[place, 2:]
        assert later.isnan().all() or not len(later)
    assert batch.inputs.shape[1] == (4 if causal else 2)
    if causal:
        assert batch.ts.tolist() == [0, 1, 2, 3]
        assert batch.observed is not None
        assert not batch.observed[:2].any()
        assert batch.observed[2:].all()


def test_the_loss_is_minus_the_log_likelihood_of_all_rows_of_a_window(made: Callable[..., SeriesForecast]) -> None:
    task = made(noise=0.3)
    batch = only(task, Split.TRAIN)
    said = torch.randn(len(batch.ts), 3 * 5, 2, dtype=torch.float64)  # three samples of each
    known = batch.observed
    assert known is not None
    each = [Normal(own, 0.3).log_prob(batch.targets)[known].sum() / 5 for own in said.unflatten(1, (3, 5)).unbind(1)]
    torch.testing.assert_close(task.loss(Outputs(said), batch), -torch.stack(each).mean())
    terms = {"kl": torch.full((5,), 2.0, dtype=torch.float64)}
    torch.testing.assert_close(task.metrics(Outputs(said, terms), batch)["elbo"], torch.stack(each).mean() - 2)


def test_errors_are_of_rows_not_read_in_units_of_the_file(made: Callable[..., SeriesForecast]) -> None:
    task = made()
    batch = only(task, Split.TEST)
    asked, read = task._masks(batch)
    off = batch.targets + torch.where(asked, 0.5, 0.25)
    found = task.reported({name: float(mean) for name, mean in task.metrics(Outputs(off), batch).items()})
    assert found["rmse"] == pytest.approx(0.5)
    assert found["rmse_fit"] == pytest.approx(0.25)
    assert found["rmse_x"] == pytest.approx(0.5 * float(task.scales.std[0]))
    assert task.counts(Outputs(off), batch)["mse_x"] == int(asked[..., 0].sum())
    assert task.counts(Outputs(off), batch)["mse_fit"] == int(read.sum())


def test_recognition_is_told_what_is_blank() -> None:
    torch.manual_seed(0)
    reader = Recognition(coordinates=2, hidden=5, latent=3, samples=1, blanks=True).eval()
    rows = torch.tensor([[[1.0, 0.0, 0.0, 1.0], [math.nan, 2.0, 0.5, 1.0]]])
    zero = rows.nan_to_num(0.0)
    assert reader(rows).y0.isfinite().all()
    assert not torch.allclose(reader(rows).y0, reader(zero).y0)


def test_a_sequence_without_a_known_row_is_refused(made: Callable[..., SeriesForecast]) -> None:
    inputs = only(made(), Split.TEST).inputs.clone()
    assert made().spec.checked(inputs) is inputs
    inputs[1, :, -1] = 0
    with pytest.raises(RefusedInput, match=r"sequence 1 \(from 0\) has no row that is known"):
        made().spec.checked(inputs)


def test_statistics_come_back_from_a_checkpoint(made: Callable[..., SeriesForecast]) -> None:
    task, other = made(text_of({"A": 30})), made(text_of({"A": 30}, seed=1))
    assert not torch.equal(other.scales.mean, task.scales.mean)
    other.use_statistics(task.statistics())
    assert torch.equal(other.scales.mean, task.scales.mean)
    other.use_statistics({})  # of a task without any
    assert torch.equal(other.scales.mean, task.scales.mean)


def test_windows_that_forecast_less_far_than_the_test_are_told(made: Callable[..., SeriesForecast]) -> None:
    short = made(text_of({"a": 60}), window=8, test=0.2)
    assert "up to 12 rows at once, and windows 4: longer ones, task.window=24" in "\n".join(short.introduction())
    [advice] = short.remarks({"test/rmse": 1.2})
    assert "Train longer, or with task.window=24, whose windows forecast about as many rows" in advice
    [other] = made(text_of({"a": 60}), window=24, test=0.2).remarks({"test/rmse": 1.2})
    assert other.endswith("Train longer."), "it is the window"
    assert "rows at once" not in "\n".join(made(text_of({"a": 60}), window=None).introduction())


def test_each_series_is_forecast_at_the_times_after_its_first_row(made: Callable[..., SeriesForecast]) -> None:
    early = "id,t,x,y\n" + "".join(f"a,{i},{i % 3},1\n" for i in range(10))
    both = made(early + "".join(f"b,{i + 20},{i % 3},1\n" for i in range(10)))
    assert [(number, own.tolist()) for number, own in both.asked([5, 20, 22])] == [(0, [5, 20, 22]), (1, [22])]
    [sentence] = both.not_forecast([5, 20, 22])
    assert sentence == "series b, which begins at 20, is forecast at 1 of the 3 times."
    assert [number for number, _ in both.asked([5, 6])] == [0]
    assert list(both.not_forecast([5, 6])) == ["series b, which begins at 20, is forecast at none of the times."]
    with pytest.raises(
        RefusedInput, match="before the first row of series a, the first to begin, at which a solve can begin, at 0"
    ):
        list(both.asked([-1, 30]))
    with pytest.raises(RefusedInput, match="begins with rows that are read before it"):
        list(both.asked([0, 30]))
    later = Forecast(series="a", times=np.array([5.0, 6.0]), values=np.ones((2, 2)))
    assert [axes.get_title() for axes in both.forecast_figure([later]).axes if axes.get_title()] == ["a"]


def test_rows_between_far_times_are_filled_in() -> None:
    found, places = rows_up_to(torch.tensor([1.0, 1.5, 4.0]), start=0.8, longest=1.0)
    assert found.tolist() == pytest.approx([1.0, 1.5, 1.5 + 2.5 / 3, 1.5 + 5 / 3, 4.0])
    assert places == [0, 1, 4]


def test_another_file_is_read_as_far_back_as_was_learned(made: Callable[..., SeriesForecast], tmp_path: Path) -> None:
    task = made()
    (tmp_path / "new.csv").write_text(text_of({"z": 8, "w": 1}, seed=1))
    new = task.with_data(tmp_path / "new.csv")
    assert [one.name for one in new.recorded] == ["z", "w"]
    assert tuple(new.reading.before(0, 8)) == (0, 6, 8, 8, 8)
    assert new.scales is task.scales
    assert only(new, Split.TEST).inputs.shape[0] == 3  # rows 2 and 3, 4 and 5, 6 and 7 of z


def test_bands_of_seeds_hold_those_of_latent_states() -> None:
    widths = np.array([[3.0], [4.0]])  # (time, column)
    one, other = (
        Forecast(series="a", times=np.arange(2.0), values=np.full((2, 1), value), half_width=widths, band="b")
        for value in (0.0, math.sqrt(8))
    )
    both = together([one, other])
    assert both.values[0, 0] == pytest.approx(math.sqrt(2))
    assert both.half_width is not None
    assert both.band == "2 standard deviations of latent states and seeds, without the noise of a measurement"
    assert both.half_width[:, 0] == pytest.approx([5.0, math.sqrt(32)])  # 3 and 4, and two deviations of 2 each
    assert together([one]) is one


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (None, {"observed": 1.0}, "task.observed must be a part of a window between 0 and 1, not 1.0"),
        (None, {"noise": 0.0}, "task.noise must be positive"),
        (None, {"kl_epochs": 0}, "task.kl_epochs must be at least 1"),
        (None, {"window": 1}, "task.window must be at least 2 rows"),
        (text_of({"a": 10}) + "b,1,,\nb,2,,\n", {}, r"rows 12 to 13 of series b: blank in every .*\(x, y\)"),
        (text_of({"a": 10, "b": 2}), {}, "2 are the least"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    made: Callable[..., SeriesForecast], text: str | None, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        made(text, **options)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("model=gru_gaps",), "asks for values and states at any time, and model=gru_gaps gives values only"),
        (("model=odernn", "task.causal=false"), "answers at its end and each of its rows. Use model="),
        (
            ("model=odenet", "task.causal=true", "network=sequence"),
            "have been read. Use model=cde or odernn, or task.causal=false.",
        ),
        (
            ("model=cnf",),
            "Use model=adaptive_depth, augmented, cde, data_controlled, galerkin, input_layer, odenet, odernn,",
        ),
        (("model=cde", "model.control=hermite"), "Use model.control=rectilinear"),
        (("task.file=turning", "task.series=series", "task.values=[x,y]", "model=exact"), "whose true field"),
        (("model=rde", "task.causal=true"), "model=rde answers at its end. Use model=cde or odernn."),
        (("task.file=turning", "task.series=series", "task.values=[x,y]", "network=mlp"), "needs all of them"),
    ],
)
def test_cells_that_cannot_be_are_refused(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = typed("task=series_forecast", *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert sentence in ended.stderr


TINY = ("trainer.epochs=2", "logger=none", "network.width=8", "task.window=6")


@pytest.mark.slow
def test_a_latent_ode_forecasts_with_bands_and_reads_new_series(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(text_of(dict.fromkeys("abcd", 20)))
    (tmp_path / "new.csv").write_text(text_of({"z": 9}, seed=1))
    words = ("task=series_forecast", f"task.file={tmp_path}/old.csv", "task.series=id", *TINY)
    assert typed(*words, cwd=tmp_path, pictures=True).returncode == 0
    folder = run_folder(tmp_path)
    assert {path.name for path in (folder / "plots").iterdir()} == {"curves.png", "forecast.png"}
    assert {"test/rmse", "test/rmse_x", "test/rmse_fit", "test/elbo"} <= record_of(tmp_path)["metrics"].keys()
    heads = ["id", "t", "x", "y", "x_low", "x_high", "y_low", "y_high"]
    own = pd.read_csv(folder / "forecast.csv")
    assert list(own.columns) == heads
    assert (own["x_low"] < own["x_high"]).all()
    run = ode.load(folder)
    pd.testing.assert_frame_equal(run.forecast(), own, check_dtype=False)
    ended = typed(f"predict={folder}", "data=new.csv", "times=[104,105]", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "8 samples of the latent state" in ended.stdout
    path = predicted(folder, "forecast.csv")
    assert list(pd.read_csv(path)["t"]) == [104, 105]
    (tmp_path / "rest.csv").write_text(text_of({"z": 9}, seed=1) + "z,200,,\nz,201.5,,\n")
    asked = run.forecast(data=tmp_path / "rest.csv")
    assert list(asked["t"]) == [200, 201.5]  # the rows that are left blank
    first = pd.read_csv(tmp_path / "new.csv")["t"][0]
    early = typed(f"predict={folder}", "data=new.csv", f"times=[{first},105]", cwd=tmp_path)
    assert (early.returncode, "rows that are read before it" in early.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["odernn", "cde"])
def test_models_that_rows_drive_forecast_the_same_whatever_else_is_asked(model: str, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(text_of(dict.fromkeys("abcd", 20)))
    words = ("task=series_forecast", f"model={model}", f"task.file={tmp_path}/old.csv", "task.series=id", *TINY)
    ended = typed(*words, cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = ode.load(run_folder(tmp_path))
    alone, among = run.forecast([130.0]), run.forecast([128.0, 129.5, 130.0])
    assert list(alone.columns) == ["id", "t", "x", "y"]
    last = among[among["t"] == 130.0].reset_index(drop=True)
    np.testing.assert_allclose(alone[["x", "y"]], last[["x", "y"]], rtol=1e-3, atol=1e-3)


def test_a_window_longer_than_what_is_learned_from_is_told_as_it_is(made: Callable[..., SeriesForecast]) -> None:
    assert "a window is 4 rows, of which" in "\n".join(made(window=4).introduction())
    assert "a window is 6 rows, as many as any series has" in "\n".join(made(window=20).introduction())
    assert "a window is 6 rows, or all of a series that has fewer to learn from, as 1 of 2 have" in "\n".join(
        made(text_of({"a": 10, "b": 7}), window=6).introduction()
    )
    assert "a window is a whole series" in "\n".join(made(window=None).introduction())
