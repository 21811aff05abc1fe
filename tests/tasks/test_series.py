"""Series of files: what is read, what is refused, what a sample of them is, and forecasts in the file's units."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import ode_runner as ode
from ode_runner.batch import Drive, Outputs, Split
from ode_runner.building.instantiate import construct
from ode_runner.commands.forecast import _lines
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.networks.forced import ForcedField, SeriesStem
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.classification import UNKNOWN
from ode_runner.tasks.forecasting import Forecast
from ode_runner.tasks.series.series import Series
from ode_runner.tasks.series.series_classes import SeriesClasses
from ode_runner.tasks.series.series_times import MOST
from tests.helpers import predicted, record_of, run_folder, typed
from tests.problems import Compose, predators

CPU = torch.device("cpu")
TWO = "id,t,x,y,u\nA,0,1,5,0\nA,1,2,,0\nA,2,3,6,1\nA,3,4,7,\nA,4,6,7,\nB,10,1,4,1\nB,11,2,5,\nB,13,5,6,\nB,14,6,8,\n"
ROLES = {"time": "t", "series": "id", "values": ["x", "y"]}


def numbered(text: str) -> str:
    """A table with numbers of rows before it, as pandas writes them."""
    head, *rows = text.splitlines()
    return "\n".join([f",{head}", *(f"{place},{row}" for place, row in enumerate(rows))]) + "\n"


@pytest.fixture
def made(composed: Compose, tmp_path: Path) -> Callable[..., Series]:
    def task(text: str = TWO, **options: Any) -> Series:
        (path := tmp_path / "data.csv").write_text(text)
        cfg = composed("task=series")
        cfg.task.update({"file": str(path), **ROLES, "window": 2, "validation": 0.2, "test": 0.2} | options)
        return construct(cfg, "task", seed=0, device=CPU)

    return task


def test_the_shipped_series_is_read_whole(composed: Compose) -> None:
    task = construct(composed("task=series"), "task", seed=0, device=CPU)
    assert (task.read.time, task.columns) == ("year", ["hare", "lynx"])
    values = task.recorded[0].values
    assert values.shape == (21, 2)
    assert values.sum(axis=0).tolist() == pytest.approx([715.7, 423.5])  # of the 21 figures of either source, by hand
    assert [int(column.argmax()) + 1900 for column in values.T] == [1903, 1904]


def test_rows_are_parted_by_time_and_a_window_begins_where_its_first_row_is(made: Callable[..., Series]) -> None:
    task = made(scaling="none")
    assert [tuple(ends) for ends in task.splits.ends] == [(3, 4, 5), (2, 3, 4)]
    [batch] = task.batches(Split.VALIDATION, batch_size=10, epoch=0)
    assert batch.inputs[:, :3].tolist() == [[3.0, 6.0, 0.0], [2.0, 5.0, 1.0]]  # state and number of the series
    assert batch.ts.tolist() == [0.0, 1.0, 2.0]
    assert batch.observed is not None
    assert batch.targets[batch.observed].tolist() == [4.0, 7.0, 5.0, 6.0]
    assert sum(len(b.inputs) for b in task.batches(Split.TRAIN, batch_size=2, epoch=0)) == task.size(Split.TRAIN) == 3


def test_a_blank_cell_is_in_no_error_and_training_begins_between_its_neighbours(made: Callable[..., Series]) -> None:
    task = made(scaling="none")
    [batch] = task.batches(Split.TRAIN, batch_size=10, epoch=0)
    starts = {tuple(row) for row in batch.inputs[:, :2].tolist()}
    assert starts == {(1.0, 5.0), (2.0, 5.5), (1.0, 4.0)}
    said = torch.zeros_like(batch.targets)
    loss = task.loss(Outputs(said), batch)
    assert batch.observed is not None
    filled = batch._replace(targets=torch.where(batch.observed, batch.targets, 1e6))
    assert task.loss(Outputs(said), filled) == loss
    assert int(batch.observed.sum()) == 4 + 4 + 4 - 2  # two windows see the blank of A


def test_statistics_are_of_training_rows_alone_and_come_back_from_a_checkpoint(made: Callable[..., Series]) -> None:
    task = made()
    changed = made(TWO.replace("A,4,6,7", "A,4,60,70").replace("B,14,6,8", "B,14,60,80"))
    for name, value in task.statistics().items():
        assert torch.equal(value, changed.statistics()[name]), name
    x = np.array([1.0, 2, 3, 1, 2])
    assert task.scales.mean[0] == pytest.approx(x.mean())
    assert task.scales.std[0] == pytest.approx(x.std())
    other = made(TWO.replace("A,0,1,5", "A,0,9,5"))
    assert other.scales.mean[0] != task.scales.mean[0]
    other.use_statistics(task.statistics())
    assert torch.equal(other.scales.mean, task.scales.mean)


def test_the_unit_of_time_in_the_file_changes_nothing(made: Callable[..., Series]) -> None:
    rows = "".join(f"{{}},{float(np.sin(i))},{float(np.cos(i))}\n" for i in range(30))
    options = {"time": None, "series": None, "values": None, "window": 5}
    clocks = (range(30), [1024 * i for i in range(30)], [1_700_000_000 + i for i in range(30)])
    tasks = [made("t,x,y\n" + rows.format(*clock), **options) for clock in clocks]
    first, *others = [[b for s in Split for b in task.batches(s, batch_size=7, epoch=0)] for task in tasks]
    for other in others:
        for mine, its in zip(first, other, strict=True):
            assert torch.equal(mine.ts, its.ts)
            assert torch.equal(mine.inputs, its.inputs)
            assert torch.equal(mine.targets, its.targets)
    assert 0.7 < float(tasks[0].scales.unit) < 1.4  # a radian of a sine


def test_the_order_of_rows_changes_neither_data_nor_their_hash(made: Callable[..., Series], tmp_path: Path) -> None:
    head, *rows = TWO.splitlines()
    options = {"file": str(tmp_path / "data.csv"), **ROLES, "sort": True}
    made()
    before = Series.contents(options)
    shuffled = made("\n".join([head, *rows[2:5][::-1], *rows[:2], *rows[5:]]) + "\n", sort=True)
    assert Series.contents(options) == before
    assert shuffled.recorded[0].values[:, 0].tolist() == [1, 2, 3, 4, 6]
    made(TWO.replace("B,11,2", "B,11,3"))
    assert Series.contents(options) != before


def test_a_frame_that_was_indexed_by_its_times_keeps_them(made: Callable[..., Series], tmp_path: Path) -> None:
    path, free = tmp_path / "data.parquet", {"values": None, "series": None, "time": None}
    frame = pd.DataFrame({"t": np.arange(5.0) / 2, "x": np.array([1.0, 2, 4, 7, 8]), "y": np.arange(5.0)})
    frame.set_index("t").to_parquet(path)
    read = made(**free, file=str(path)).read
    assert (read.time, read.values, read.series[0].times.tolist()) == ("t", ["x", "y"], [0, 0.5, 1, 1.5, 2])
    frame.set_index("t").rename_axis(None).to_parquet(path)
    with pytest.raises(RefusedInput, match=r"data.parquet: column 1 has no name, .* would be taken for the time"):
        made(**free, file=str(path))


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_other_files_hold_the_same(made: Callable[..., Series], tmp_path: Path, ending: str) -> None:
    options = {"values": ["x"], "series": None, "time": "t"}
    csv = made("t,x\n0,1\n1,2\n2,4\n3,7\n4,8\n", **options)
    path = tmp_path / f"data.{ending}"
    columns = {"t": np.arange(5.0), "x": np.array([1.0, 2, 4, 7, 8])}
    if ending == "npz":
        np.savez(path, **columns)
    else:
        pd.DataFrame(columns).to_parquet(path)
    assert made(**options, file=str(path)).read.content() == csv.read.content()


def test_parquet_without_its_library_is_told_in_a_sentence(
    made: Callable[..., Series], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "data.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(RefusedInput, match=r"parquet files need pyarrow. Install it: pip install 'ode-run\[parquet\]'"):
        made(file=str(path))


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (TWO, {"values": ["x", "z"]}, r"task.values: .*data.csv has no column 'z'.* It has: id, t, x, y, u"),
        (TWO, {"values": ["x", "t"]}, r"the column 't' of .*data.csv has another role"),
        (
            "t,who,x\n0,A,1\n1,A,2\n",
            {"series": None, "values": None},
            r"row 2, column 'who': 'A' is no finite .*series apart: task.series=who. If it is not to be learned: task",
        ),
        (TWO.replace("A,3,4", "A,3,four"), {}, r"data.csv, row 5, column 'x': 'four' is no finite number"),
        (TWO.replace("A,3,4", "A,3,n/a"), {}, r"row 5, column 'x': 'n/a'"),
        (TWO, {"time": "id", "series": None}, r"row 2, column 'id': 'A' is no.* task.time=NAME, and task.series=id"),
        (TWO.replace("A,3,4", "A,three,4"), {}, r"column 't': 'three' is no finite number\. Write .*T12:30\.$"),
        (TWO.replace("A,3,4", "A,1,4"), {}, r"row 5, column 't': the times of series A run backwards, from 2 to 1"),
        (
            "x,t,y\n3,0,5\n2,1,4\n",
            {"series": None, "time": None, "values": None},
            r"run backwards, from 3 to 2. The column 't' increases: if it is that .* say task.time=t. Otherwise sort",
        ),
        (
            "x,y,my t\n3,0,5\n3,0,6\n",
            {"series": None, "time": None, "values": None},
            r"are both at 3. The column 'my t' increases: .* say task.time='my t'. Otherwise keep one",
        ),
        ("x,t\n3,1\n2,1\n", {"series": None, "time": None, "values": None}, r"from 3 to 2. Sort the rows, or say"),
        (
            "x,t,y\n3,0,5\n2,1,4\n",
            {"series": None, "time": "x", "values": ["y"]},
            r"from 3 to 2. Sort the rows, or say",
        ),
        (TWO.replace("A,3,4", "A,2,4"), {}, r"column 't': rows 4 and 5 of series A are both at 2. Keep one of them\.$"),
        (TWO.replace("A,3,4", "A,,4"), {}, r"row 5, column 't': the time is missing"),
        (TWO.replace("A,3,4", " ,3,4"), {}, r"row 5, column 'id': blank, so that the row is of no series"),
        (TWO + "C,0,1,1,1\nC,1,1,2,1\n", {}, r"series C of .*data.csv, from row 11 on: 2 with values"),
        (TWO, {"log": ["x"], "values": ["x"]}, None),
        (TWO.replace("A,3,4", "A,3,-4"), {"log": ["x"]}, r"row 5, column 'x': -4 has no logarithm"),
        (TWO, {"split": "series", "test": 0.5, "validation": 0.5}, r"leaves none of 2 series to learn from"),
        (TWO.replace(",1\n", ",\n").replace(",0\n", ",\n"), {"inputs": ["u"]}, r"column 'u': an input without a value"),
        ("", {}, r"data.csv cannot be read as a table"),
        ("id,t,x,y,u\n", {}, r"data.csv has no rows below its heads"),
        (TWO.replace("u", " x "), {}, r"data.csv, row 1: two columns are named 'x'. Give each a name of its own"),
        (TWO.replace("u", '"x,y"'), {}, None),
        (
            TWO.replace("\n", ",7\n").replace("u,7\n", "u\n", 1),
            {},
            r"data.csv: rows have more cells than there are heads",
        ),
        (TWO.replace("A,3,4", "A,3,4,5"), {}, r"data.csv, row 5: 6 cells, and 5 heads. Write a name above each column"),
        (
            numbered(TWO),
            {"time": None, "values": None, "inputs": ["u"]},
            r"data.csv: column 1 has no name, .* taken for the time. .*: task.time=t 'task.values=\[x,y\]'\.$",
        ),
        (numbered(TWO), {"values": None}, r"column 1 has no name, .* learned. .* use: 'task.values=\[x,y,u\]'\.$"),
        (numbered(TWO), {"values": ["x"]}, None),
    ],
)
def test_what_cannot_be_read_is_named_by_file_row_and_column(
    made: Callable[..., Series], text: str, options: dict[str, Any], sentence: str | None
) -> None:
    if sentence is None:
        made(text, **options)
        return
    with pytest.raises(RefusedInput, match=sentence):
        made(text, **options)


def test_times_are_the_first_column_that_nothing_else_is(made: Callable[..., Series]) -> None:
    task = made("id,t,x\n" + "".join(f"A,{t},{t * t}\n" for t in range(9)), time=None, series="id", values=None)
    assert (task.read.time, list(task.read.values)) == ("t", ["x"])


def test_other_marks_between_cells_are_understood(made: Callable[..., Series]) -> None:
    task = made("# measured in May\nt;x\n0;1,5\n1;2\n\n2;4\n3;7\n", time=None, series=None, values=None)
    assert task.recorded[0].values[:, 0].tolist() == [1.5, 2, 4, 7]
    assert task.recorded[0].rows.tolist() == [3, 4, 6, 7]  # as an editor counts lines


def test_a_separator_at_the_end_of_every_line_begins_no_column(made: Callable[..., Series]) -> None:
    how = {"time": None, "series": None, "values": None}
    plain = made("t,x\n" + "".join(f"{t},{t * t}\n" for t in range(9)), **how)
    task = made("t,x,\n" + "".join(f"{t},{t * t},\n" for t in range(9)), **how)
    assert task.read.content() == plain.read.content()


def test_another_encoding_is_told_in_a_sentence(made: Callable[..., Series], tmp_path: Path) -> None:
    (path := tmp_path / "latin.csv").write_text("Zeit,Größe\n0,1\n", encoding="latin-1")
    with pytest.raises(RefusedInput, match=r"latin.csv is no text in UTF-8 \(byte 7\). Save it as such"):
        made(file=str(path))


def test_a_comma_in_a_name_is_no_decimal_point(made: Callable[..., Series]) -> None:
    rows = "".join(f"Smith, J;{t};{t},5\n" for t in range(6))
    task = made(f"who;t;x\n{rows}", time="t", series="who", values=["x"])
    assert (task.recorded[0].name, task.recorded[0].values[1, 0]) == ("Smith, J", 1.5)


def test_whole_series_are_held_back_alike_for_every_seed(made: Callable[..., Series]) -> None:
    text = "id,t,x\n" + "".join(f"{i},{t},{i + t}\n" for i in range(10) for t in range(4))
    tasks = [made(text, values=["x"], split="series") for _ in range(2)]
    parts = tasks[0].splits.parts
    assert sorted(sum(parts.values(), [])) == list(range(10))
    assert [len(parts[split]) for split in Split] == [6, 2, 2]
    assert tasks[1].splits.parts == parts
    [batch] = [b for b in tasks[0].batches(Split.TEST, batch_size=10, epoch=0) if not b.part]
    assert batch.inputs[:, -1].tolist() == parts[Split.TEST]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("held", "expected"), [(True, 0.632121), (False, 0.767456)])
def test_an_input_is_held_or_linear_between_its_own_times(held: bool, expected: float) -> None:
    """A capacitor, x' = u - x from 0, where u is 0, 1, 1 at 0, 1, 2."""

    class Charging(VectorField):
        def forward(self, t: Any, y: Any, u: Any) -> Any:
            return u - y

    stem = SeriesStem(torch.nn.Identity(), state=1, drive=Drive(columns=1, held=held))
    own = [0.0, 0.0, 0, 0, 1, 1, 2, 1]  # x, the number of the series, knots
    later = [0.0, 0.0, 0, 0, 1.5, 1, 2, 1]
    solver = Dopri5(rtol=1e-8, atol=1e-8, max_steps=1000, per_sample=False)
    integrate = Integrator(solver=solver, gradient=Backprop())
    begun = stem(torch.tensor([own, later]))
    x = integrate(ForcedField(Charging(), held=held), begun, torch.tensor([0.0, 2.0])).ys[-1, :, 0]
    assert float(x[0]) == pytest.approx(expected, abs=2e-6)
    if held:  # the second has its step at 1.5
        assert float(x[1]) == pytest.approx(1 - np.exp(-0.5), abs=2e-6)


def test_inputs_have_a_clock_of_their_own(made: Callable[..., Series]) -> None:
    task = made(inputs=["u"], scaling="none")
    clock = task.measured[0].knots[0]
    assert clock.tolist() == [[0, 0], [1, 0], [2, 1]]
    [batch] = task.batches(Split.VALIDATION, batch_size=10, epoch=0)
    knots = batch.inputs[:, 3:].view(2, 1, -1, 2)
    assert knots[0, 0].tolist() == [[0, 1]]  # at row 2 of A, in times of the piece, held from then on
    assert knots[1, 0].tolist() == [[-1, 1]]


@pytest.mark.slow
def test_a_forecast_is_in_columns_and_units_of_the_file_and_other_seeds_make_bands(tmp_path: Path) -> None:
    command = ("task=series", "task.ahead=3", "trainer.epochs=2", "logger=none")
    assert typed(*command, cwd=tmp_path, pictures=True).returncode == 0
    folder = run_folder(tmp_path)
    table = pd.read_csv(folder / "forecast.csv")
    assert list(table.columns) == ["year", "hare", "lynx"]
    assert table["year"].tolist() == [1921, 1922, 1923]
    assert {path.name for path in (folder / "plots").iterdir()} == {"curves.png", "forecast.png"}
    assert {"test/rmse", "test/rmse_hare", "test/rmse_fit"} <= record_of(tmp_path)["metrics"].keys()
    alone = typed(f"predict={folder}", cwd=tmp_path)
    assert "no bands" in alone.stdout
    assert typed(*command, "seed=1", cwd=tmp_path).returncode == 0
    banded = typed(f"predict={folder}", "times=[1921,1930.5]", cwd=tmp_path)
    assert "mean of 2 seeds (0, 1), and 2 standard deviations of seeds" in banded.stdout
    path = predicted(folder, "forecast.csv")
    both = pd.read_csv(path)
    assert list(both.columns) == ["year", "hare", "lynx", "hare_low", "hare_high", "lynx_low", "lynx_high"]
    assert both["year"].tolist() == [1921, 1930.5]
    assert (both["hare_low"] < both["hare"]).all()
    run = ode.load(folder)
    pd.testing.assert_frame_equal(run.forecast([1921, 1930.5], bands=True), both)
    assert list(run.forecast().columns) == ["year", "hare", "lynx"], "of this run alone"
    early = typed(f"predict={folder}", "times=[1890,1900]", cwd=tmp_path)
    assert early.returncode == 2
    assert "before the first row at which a solve can begin, at 1900" in early.stderr


def test_times_of_a_forecast_are_told_apart_on_the_screen() -> None:
    """Seconds since 1970 were all 1.7e+09; values keep five digits, also where they are alike."""
    rows = [["A", 1.7e9 + i, 0.123456 + 1e-7 * i] for i in range(13)]
    lines = _lines(["of", "seconds", "x"], rows)
    assert lines[0] == "  of     seconds        x"
    assert lines[1:3] == ["   A  1700000000  0.12346", "   A  1700000001  0.12346"]
    assert lines[-1] == "  and 1 more"
    assert _lines(["day", "x"], [["2025-01-01", 2.0], ["2025-01-02", 2.5]])[1] == "  2025-01-01    2"


def test_rows_in_bursts_are_forecast_at_no_more_times_than_one_can_wait_for(made: Callable[..., Series]) -> None:
    rows = "".join(f"{burst * 1e8 + i:.0f},{i % 3}\n" for burst in range(4) for i in range(12))
    task = made("t,x\n" + rows, time="t", series=None, values=None, inputs=[])
    [(_, times)] = task.asked(None)
    assert (len(times), times[-1]) == (MOST, pytest.approx(3.75e8))
    [*_, (_, times)] = made(ahead=3.0).asked(None)
    assert np.diff(times).tolist() == pytest.approx([1.0, 1.0]), "as far apart as rows are"


class Standing:
    """A model whose states stay where their solve begins."""

    def predict(self, inputs: Tensor, ts: Tensor) -> Tensor:
        return inputs[:, :2].expand(len(ts), -1, -1)


@pytest.mark.parametrize(
    ("start", "begun"),
    [("last", [[2, 5], [3, 6], [3, 6], [4, 7]]), ("first", [[2, 5]] * 4)],
)
def test_a_forecast_begins_at_the_last_row_before_its_first_time(
    made: Callable[..., Series], start: str, begun: list[list[float]]
) -> None:
    """Whatever other times are asked for; at times before a column's first value, which it began at, it is refused."""
    task = made("t,x,y\n0,1,\n1,2,5\n2,,\n3,3,6\n6,4,7\n", series=None, scaling="none", start=start, validation=0.0)
    for first, values in zip((1, 3, 5.9, 6), begun, strict=True):
        for times in ([first, 7.0], [first], [first, 6.5, 7.0, 9.0]):
            [found] = task.forecasts(cast(ModelView, Standing()), times)
            assert found.values.tolist() == pytest.approx(np.array([values] * len(times))), (first, times)
    with pytest.raises(RefusedInput, match="times begin at 0.5, before the first row at which a solve can begin, at 1"):
        task.forecasts(cast(ModelView, Standing()), [0.5, 7.0])


LATE = "id,t,x,y,u\n" + "".join(
    f"{name},{t},{16 / 2**t},{8 / 2**t if t > 1 else ''},{1 if t > late else ''}\n"
    for name, late in (("A", 0), ("B", 2))
    for t in range(10)
)


@pytest.mark.parametrize("split", ["time", "series"])
@pytest.mark.parametrize("start", ["first", "last"])
@pytest.mark.parametrize("window", [None, 3])
def test_no_solve_begins_before_each_column_and_input_has_had_a_value(
    made: Callable[..., Series], split: str, start: str, window: int | None
) -> None:
    """Pieces of training began at the first row, with the first later value, so that a rate was far off."""
    task = made(LATE, split=split, start=start, window=window, inputs=["u"], scaling="none", unit=1.0, validation=0.0)
    begun = [[], []]
    for part in Split:
        for batch in task.batches(part, batch_size=20, epoch=0):
            for x, y, number, knot, *_ in batch.inputs.tolist():
                assert (x, knot <= 0) == (2 * y, True)
                begun[int(number)].append(x)
    assert [max(values) for values in begun] == [16 / 2**2, 16 / 2**3]
    assert "5 rows at the beginning of 2 series are left out" in "\n".join(task.introduction())
    others = Path(task.file).with_name("new.csv")
    others.write_text(LATE.replace("A,0,16.0,", "A,0,160.0,"))
    new = task.with_data(others)
    [found, _] = new.forecasts(cast(ModelView, Standing()), [2.0, 4.0])
    assert found.values.tolist() == [[4.0, 2.0]] * 2


def test_a_series_whose_last_column_begins_at_its_end_is_refused(made: Callable[..., Series]) -> None:
    rows = "".join(f"{t},1,{'' if t < 7 else 1}\n" for t in range(8))
    with pytest.raises(RefusedInput, match="row 9, leaves 1 to learn from; 2 are the least"):
        made("t,x,y\n" + rows, series=None, validation=0.0, test=0.0)


def test_rows_at_the_end_without_values_are_forecast(made: Callable[..., Series]) -> None:
    """They were ignored without a word, where task=series_forecast forecasts them."""
    task = made(TWO + "A,5.5,,,\nA,7,,,\n", scaling="none")
    first, second = task.forecasts(cast(ModelView, Standing()), None)
    assert (first.times.tolist(), second.times.tolist()) == ([5.5, 7.0], [15.0])


def test_times_of_a_forecast_are_written_without_what_adding_them_rounds(made: Callable[..., Series]) -> None:
    summed = np.array([0.1 + 0.2, 1.7e9 + 0.125])
    assert summed[0] != 0.3
    rows = made().forecast_table([Forecast(series="A", times=summed, values=np.ones((2, 2)))]).rows
    assert [row[1] for row in rows] == [0.3, 1700000000.125]


DATED = "date,x\n2024-03,1\n2024-03-02,2\n2024-03-02T12:00,4\n2024-03-04T00:00Z,7\n2024-03-05,8\n"


def test_dates_are_times_in_days(made: Callable[..., Series]) -> None:
    task = made(DATED, time=None, series=None, values=None, scaling="none")
    assert task.dated
    assert task.recorded[0].times.tolist() == [19783.0, 19784.0, 19784.5, 19786.0, 19787.0]
    assert task.read.time_text(19784.5) == "2024-03-02T12:00:00"
    assert "2024-03-01 to 2024-03-05" in "\n".join(task.introduction())
    batch = next(task.batches(Split.TEST, batch_size=1, epoch=0))
    assert batch.ts[-1] == 1.0  # a day from the row before the test


@pytest.mark.slow
def test_a_trained_run_forecasts_a_new_series_in_its_own_units(tmp_path: Path) -> None:
    rows = [f"2024-{1 + i // 28:02d}-{1 + i % 28:02d},{10 + 3 * np.sin(i / 4)},{np.cos(i / 4)}" for i in range(60)]
    (tmp_path / "old.csv").write_text("\n".join(["date,a,b", *rows]) + "\n")
    assert (
        typed(
            "task=series", f"task.file={tmp_path}/old.csv", "trainer.epochs=2", "logger=none", cwd=tmp_path
        ).returncode
        == 0
    )
    folder = run_folder(tmp_path)

    def said(*words: str) -> pd.DataFrame:
        ended = typed(f"predict={folder}", *words, cwd=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        path = predicted(folder, "forecast.csv")
        return pd.read_csv(path)

    own = said()
    run = ode.load(folder)
    pd.testing.assert_frame_equal(run.forecast(), own)
    with pytest.raises(RefusedInput, match="bands=True: no run of another seed lies beside"):
        run.forecast(bands=True)
    pd.testing.assert_frame_equal(run.forecast(list(own["date"]), data=tmp_path / "old.csv"), own)
    assert own["date"][0] == "2024-03-05"
    pd.testing.assert_frame_equal(said("data=old.csv"), own)  # a series of training is as good as a new one
    head, *lines = (tmp_path / "old.csv").read_text().splitlines()
    swapped = [",".join([day, b, a, "more"]) for day, a, b in (line.split(",") for line in lines[20:])]
    (tmp_path / "new.csv").write_text("\n".join(["date,b,a,note", *swapped]) + "\n")
    pd.testing.assert_frame_equal(said("data=new.csv", f"times=[{','.join(own['date'])}]"), own)
    (tmp_path / "one.csv").write_text("date,a,b\n2025-01-01,10,1\n")
    assert list(said("data=one.csv", "times=2025-01-02:2025-01-04:3")["date"]) == [f"2025-01-0{i}" for i in (2, 3, 4)]
    (tmp_path / "other.csv").write_text("date,c\n2025-01-01,10\n")
    (tmp_path / "plain.csv").write_text("date,a,b\n1,10,1\n")
    (tmp_path / "blank.csv").write_text("date,a,b\n2025-01-01,10,\n")
    for words, sentence in {
        ("data=one.csv",): "one.csv has one row",
        ("data=other.csv",): "has the columns date, c, and the run was made with date, a, b. Name a, b as the run does",
        ("data=plain.csv",): "its times are numbers, those of the run dates",
        ("data=blank.csv",): "column 'b': blank in all rows",
        ("data=none.csv",): "there is no such file",
        ("times=[1,2]",): "times of this run are dates",
        ("data=new.csv", "inputs=[[1,2]]"): "Leave one of them out",
    }.items():
        ended = typed(f"predict={folder}", *words, cwd=tmp_path)
        assert (ended.returncode, sentence in ended.stderr) == (2, True), ended.stderr


def test_the_mean_is_told_from_a_model(made: Callable[..., Series]) -> None:
    task = made()
    assert "little better than their mean" in next(task.remarks({"test/rmse": 0.5, "test/rmse_fit": 0.95}))
    assert not list(task.remarks({"test/rmse": 0.5, "test/rmse_fit": 0.5}))


def test_a_state_that_stands_still_is_told_from_a_model(made: Callable[..., Series]) -> None:
    """What a field of 0 answers is as far from an oscillation as its mean is, at least."""
    rows = "".join(f"{t},{math.sin(t)}\n" for t in range(40))
    task = made("t,x\n" + rows, series=None, values=["x"], window=None, start="first")
    [batch] = [one for one in task.batches(Split.TEST, batch_size=100, epoch=0) if one.part == "fit"]
    still = task.metrics(Outputs(torch.zeros_like(batch.targets) + batch.targets[:1]), batch)
    assert "little better than their mean" in next(task.remarks({"test/rmse": 1.0, **_tested(task, still)}))


def _tested(task: Series, means: dict[str, Tensor]) -> dict[str, float]:
    found = task.reported({name: float(value) for name, value in means.items()})
    return {f"test/{name}": value for name, value in found.items()}


@pytest.mark.slow
def test_a_long_oscillation_is_learned_by_default(tmp_path: Path) -> None:
    """Three periods of hares and lynx, of which the mean would be the answer of one fit to the whole."""
    predators(tmp_path / "c.csv", end=20.0, rows=201, noise=0.0)
    ended = typed("task=series", "task.file=c.csv", "logger=none", cwd=tmp_path)
    assert ended.returncode == 0
    assert 1 - record_of(tmp_path)["metrics"]["test/rmse_fit"] ** 2 > 0.9


def test_a_table_of_what_was_read_comes_before_training(made: Callable[..., Series]) -> None:
    text = "\n".join(made(values=["x", "y"]).introduction())
    assert "2 series" in text
    assert "0 to 4" in text
    assert "1 of 9" in text  # blanks of y
    assert "a window is 2 rows" in text
    longer = made(window=500)
    assert "a window is 3 rows, as many as any series has to learn from" in "\n".join(longer.introduction())
    assert longer.splits.samples().training == "all training rows"


def test_with_units_of_the_file_only_errors_are_of_logarithms(made: Callable[..., Series]) -> None:
    task = made("t,x\n0,1\n1,2\n2,4\n3,7\n4,8\n", scaling="none", log=["x"], series=None, values=["x"], window=None)
    [batch] = task.batches(Split.TRAIN, batch_size=1, epoch=0)
    assert batch.targets.flatten().tolist() == [1, 2, 4]
    errors = task.residuals(Outputs(torch.e * batch.targets), batch)
    std = float(np.log([1.0, 2, 4]).std())
    assert errors.tolist() == pytest.approx([1 / std] * 3)
    below = torch.full_like(batch.targets, -1.0).requires_grad_()
    task.residuals(Outputs(below), batch).sum().backward()
    assert below.grad is not None
    assert bool(below.grad.isfinite().all())


@pytest.fixture
def labelled(composed: Compose, tmp_path: Path) -> Callable[..., SeriesClasses]:
    def task(text: str, **options: Any) -> SeriesClasses:
        (path := tmp_path / "labelled.csv").write_text(text)
        cfg = composed("task=series_classes")
        cfg.task.update({"file": str(path)} | options)
        return construct(cfg, "task", seed=0, device=CPU)

    return task


def labels_of(count: int, label: Callable[[int], str], rows: int = 3) -> str:
    lines = (f"{t},{i + t},{i},{label(i)}" for i in range(count) for t in range(rows + i % 2))
    return "t,x,series,label\n" + "\n".join(lines) + "\n"


def test_labelled_series_keep_their_label_their_length_and_times_from_zero(
    labelled: Callable[..., SeriesClasses],
) -> None:
    task = labelled(labels_of(10, lambda i: "ab"[i % 2]))
    [batch] = task.batches(Split.TRAIN, batch_size=100, epoch=0)
    lengths = batch.inputs[..., -1].sum(dim=1).long()
    assert torch.equal(lengths, 3 + batch.targets)  # every second has a row more, and the label b
    assert bool((batch.inputs[:, 0, -2] == 0).all())
    assert batch.inputs.shape == (6, 4, 3)
    assert "class 1: b" in "\n".join(task.introduction())


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (labels_of(10, lambda i: "a"), {}, "column 'label': every series is labelled 'a'"),
        (labels_of(10, lambda i: ("a", "", "b")[i % 3]), {}, "row 5, column 'label': series 1 has no label. Write it"),
        (
            labels_of(10, lambda i: "rare" if i == 2 else "a"),
            {"test": 0.6},
            "no series to learn from is labelled 'rare'",
        ),
        (labels_of(3, lambda i: "ab"[i % 2]), {}, "leave less than 2 to learn from"),
        ("t,x,series,label\n0,1,A,a\n1,2,A,b\n", {}, "row 3: series A has the labels 'a' and 'b'"),
        ("t,x,series,label\n1,1,A,a\n0,2,A,b\n", {"sort": True}, "row 2: series A has the labels 'b' and 'a'"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(
    labelled: Callable[..., SeriesClasses], text: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        labelled(text, **options)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (labels_of(3, lambda i: "c"), "the run knows no class 'c'. It knows: a, b"),
        ("t,x,series\n0,1,A\n1,,A\n2,3,A\n", None),
        ("t,x,series,label\n0,1,A,\n1,,A,\n2,3,A,\n", None),
        ("t,y,series\n0,1,A\n", "Name x as the run does"),
    ],
)
def test_other_series_are_put_to_a_trained_classifier(
    labelled: Callable[..., SeriesClasses], tmp_path: Path, text: str, sentence: str | None
) -> None:
    task = labelled(labels_of(10, lambda i: "ab"[i % 2]))
    (path := tmp_path / "new.csv").write_text(text)
    if sentence:
        with pytest.raises(RefusedInput, match=sentence):
            task.with_data(path)
        return
    new = task.with_data(path)
    [batch] = new.batches(Split.TEST, batch_size=5, epoch=0)
    assert (batch.inputs.shape, batch.targets.tolist(), list(new.sample_names)) == ((1, 2, 3), [UNKNOWN], ["A"])
    assert len(task.splits[Split.TEST].targets) == 2, "the run's own task is as it was"
