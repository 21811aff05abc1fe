"""A summary of a file of series, as lines of text."""

from collections.abc import Iterator, Sequence

import numpy as np

from ode_runner.batch import Split
from ode_runner.tasks.series.series_file import SeriesFile
from ode_runner.tasks.series.series_splits import SeriesSplits

LISTED = 8  # series that are listed


def lines_of(read: SeriesFile, splits: SeriesSplits) -> Iterator[str]:
    """The rows of each series by split, and statistics of the columns in the training rows."""
    yield f"read {read.path}: {len(splits.series)} series"
    gap = "largest gap (days)" if read.dates else "largest gap"
    heads = ["series", "rows", read.time, "training", "validation", "test", gap]
    yield from _aligned([heads, *(_series(read, splits, i) for i in range(min(LISTED, len(splits.series))))])
    if len(splits.series) > LISTED:
        yield f"  and {len(splits.series) - LISTED} more"
    yield from _aligned([["column", "mean", "std", "blank"], *_columns(splits)])
    if before := [begin for begin in map(splits.begin, range(len(splits.series))) if begin]:
        yield (
            f"  {sum(before)} rows at the beginning of {len(before)} series are left out: a solve begins at values of "
            "every column and input, which not all have by then"
        )
    empty = [name for name in ("validation", "test") if not getattr(splits, name)]
    if empty:
        yield f"  no rows are held back for {' and '.join(empty)}: judged by the training rows"


def _series(read: SeriesFile, splits: SeriesSplits, number: int) -> list[str]:
    one, rows = splits.series[number], splits.rows(number)
    span = f"{read.time_text(one.times[0])} to {read.time_text(one.times[-1])}"
    gap = f"{np.diff(one.times).max():.4g}"
    return [one.name or "all", str(len(one.times)), span, *(str(rows[split]) for split in Split), gap]


def _columns(splits: SeriesSplits) -> Iterator[list[str]]:
    cells = np.concatenate([one.values for one in splits.series])
    own = splits.parts[Split.TRAIN]
    training = np.concatenate([splits.series[i].values[: splits.ends[i].train] for i in own])
    for place, name in enumerate(splits.columns):
        mean, std = np.nanmean(training[:, place]), np.nanstd(training[:, place])
        said = " (constant: not scaled)" if std <= 1e-12 * abs(mean) else ""
        blank = int(np.isnan(cells[:, place]).sum())
        yield [name, f"{mean:.4g}", f"{std:.4g}{said}", f"{blank} of {len(cells)}"]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield f"  {'  '.join(cells).rstrip()}"
