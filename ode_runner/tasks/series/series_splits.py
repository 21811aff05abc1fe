"""The division of series, or of their rows, into training, validation and test splits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.plots.curves import Samples
from ode_runner.tasks.series.series_file import Recorded, SeriesFile


class Ends(NamedTuple):
    """Numbers of rows of a series, from its first: before the end of training, of validation, and of the test."""

    train: int
    validation: int
    test: int


class Piece(NamedTuple):
    """A part of a series that is solved as one problem."""

    series: int
    begin: int  # the row at which the solve begins
    stop: int  # the end of its rows (exclusive)
    scored: int  # the first row whose error counts
    known: int  # only rows before this one may determine the initial values


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesSplits:
    """Holds back the last rows of every series, or whole series; `validation` and `test` are their shares."""

    series: Sequence[Recorded]  # rows with at least one value
    columns: Sequence[str]
    path: Path
    by: Literal["time", "series"]
    validation: float
    test: float
    window: int | None
    start: Literal["last", "first"]
    least: int = 2  # training rows that each series must have
    every_column: bool = True  # whether a solve begins at values of every column, and not with rows that are read
    driven: Sequence[float] | None = None  # for each series: the first time at which it has a value of every input

    @cached_property
    def parts(self) -> dict[Split, list[int]]:
        """The indices of the series of each split; with `by="time"` every split has all of them.

        Raises:
            RefusedInput: no series is left for training.
        """
        everything = list(range(len(self.series)))
        if self.by == "time":
            return dict.fromkeys(Split, everything)
        validation, test = (share_of(part, len(everything)) for part in (self.validation, self.test))
        left = len(everything) - validation - test
        if left < 1:
            raise RefusedInput(
                f"task.split=series leaves none of {len(everything)} series to learn from. "
                "Use task.split=time, or smaller task.validation and task.test."
            )
        return drawn_parts(len(everything), validation=validation, test=test)

    @cached_property
    def ends(self) -> list[Ends]:
        """The rows at which each split ends, for each series.

        Raises:
            RefusedInput: a series has too few rows to be divided, or a column has no value in its training rows.
        """
        return [self._ends(number) for number in range(len(self.series))]

    def pieces(self) -> dict[Split, dict[str, list[Piece]]]:
        """The pieces to be solved, by split and part; the test also solves the training rows, as the part `fit`."""
        training = self.parts[Split.TRAIN]
        whole = [self._from_first(i, 0, self.ends[i].train) for i in training]
        found = {Split.TRAIN: {"": [piece for i in training for piece in self.windows(i)]}}
        for split, part in ((Split.VALIDATION, self.validation), (Split.TEST, self.test)):
            found[split] = {"": [self._held_back(i, split) for i in self.parts[split]] if part else whole}
        if self.test:
            found[Split.TEST]["fit"] = whole
        return found

    def samples(self) -> Samples:
        """What is solved in training and in validation, in words."""
        whole = self.window is None or self.window > max(self._to_learn_from)
        window = "all training rows" if whole else f"windows of {self.window} rows"
        if not self.validation:
            return Samples(window, "the training rows from the first on")
        return Samples(window, "rows held back" if self.by == "time" else "whole series held back")

    def window_in_words(self) -> str:
        """The size of a window in words; a series with fewer rows is a window as a whole."""
        rows, window = self._to_learn_from, self.window
        if window is None:
            return "a whole series"
        if window > max(rows):
            return f"{max(rows)} rows, as many as any series has to learn from (task.window={window})"
        fewer = sum(count < window for count in rows)
        all_of = f", or all of a series that has fewer to learn from, as {fewer} of {len(rows)} have" if fewer else ""
        return f"{window} rows{all_of}"

    @property
    def _to_learn_from(self) -> list[int]:
        """The number of training rows of each training series."""
        return [self.ends[i].train - self.begin(i) for i in self.parts[Split.TRAIN]]

    def rows(self, number: int) -> dict[Split, int]:
        """The number of rows of a series in each split."""
        ends, begin = self.ends[number], self.begin(number)
        if self.by == "series":
            return {split: ends.test - begin if number in self.parts[split] else 0 for split in Split}
        counts = (ends.train - begin, ends.validation - ends.train, ends.test - ends.validation)
        return dict(zip(Split, counts, strict=True))

    def _ends(self, number: int) -> Ends:
        one = self.series[number]
        rows = len(one.times)
        test, validation = (share_of(part, rows) if self.by == "time" else 0 for part in (self.test, self.validation))
        train = rows - test - validation
        name = f"series {one.name} of {self.path}" if one.name else str(self.path)
        if train < self.least:
            raise RefusedInput(
                f"{name}, from row {one.first} on: {rows} with values, of which {max(train, 0)} would be left to learn "
                f"from, and {self.least} are the least. Give it more rows, or smaller task.validation and task.test."
            )
        for place, column in enumerate(self.columns if self.every_column else ()):
            if np.isnan(one.values[:train, place]).all():
                raise RefusedInput(
                    f"{name}, rows {one.rows[0]} to {one.rows[train - 1]}, column '{column}': blank in all rows to "
                    "learn from. Leave it out of task.values."
                )
        if train - (begin := self.begin(number)) < self.least:
            raise RefusedInput(
                f"{name}: a solve begins at values of every column, and the first row by which each has had one, row "
                f"{one.rows[min(begin, rows - 1)]}, leaves {max(train - begin, 0)} to learn from; {self.least} are the "
                "least. Leave the column that begins last out of task.values or task.inputs, or this series out."
            )
        return Ends(train, train + validation, rows)

    def windows(self, number: int) -> list[Piece]:
        """All windows of the training rows of a series, one from each row with enough rows after it."""
        begin, train = self.begin(number), self.ends[number].train
        window = min(self.window or train, train - begin)
        return [Piece(number, i, i + window, i, train) for i in range(begin, train - window + 1)]

    def begin(self, number: int) -> int:
        """The first row of a series at which a solve may begin: every column and input has had a value by then.

        An earlier one would begin at later values. It is 0 if rows are read before a solve, blanks included.
        """
        if not self.every_column:
            return 0
        one = self.series[number]
        known = int((~np.isnan(one.values)).argmax(axis=0).max())
        return known if self.driven is None else max(known, int(np.searchsorted(one.times, self.driven[number])))

    def begun(self) -> list[Recorded]:
        """The series from the first row at which a solve may begin."""
        return [one.at(np.arange(self.begin(number), len(one.times))) for number, one in enumerate(self.series)]

    def _held_back(self, number: int, split: Split) -> Piece:
        """The rows of a series that belong to a split: all of them, or those at its end."""
        ends = self.ends[number]
        if self.by == "series":
            begin = self.begin(number)
            return Piece(number, begin, ends.test, begin, begin + 1)
        scored, stop = (ends.train, ends.validation) if split is Split.VALIDATION else (ends.validation, ends.test)
        if self.start == "first":
            return self._from_first(number, scored, stop)
        return Piece(number, scored - 1, stop, scored, scored)

    def _from_first(self, number: int, scored: int, stop: int) -> Piece:
        begin = self.begin(number)
        return Piece(number, begin, stop, max(begin, scored), self.ends[number].train)


def drawn_parts(count: int, *, validation: int, test: int) -> dict[Split, list[int]]:
    """The indices of `count` series by split, the same for every seed; an empty split gets those of training."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    left = count - validation - test
    train, other = sorted(order[:left]), order[left:]
    held = {Split.VALIDATION: sorted(other[:validation]), Split.TEST: sorted(other[validation:])}
    return {Split.TRAIN: train} | {split: own or train for split, own in held.items()}


def share_of(part: float, count: int) -> int:
    """The share of `count` as an integer: at least one, unless the share is 0."""
    return max(1, round(part * count)) if part else 0


def driven_from(read: SeriesFile) -> list[float] | None:
    """For each series of a file, the first time by which every input has had a value; None without inputs."""
    if not read.inputs:
        return None
    return [max(_first_time(one, u) for u in one.inputs.T) for one in read.series]


def _first_time(one: Recorded, values: np.ndarray) -> float:
    known = ~np.isnan(values)
    return float(one.times[known.argmax()]) if known.any() else -math.inf  # an input without values is refused later
