"""Pictures of series in which a model read some rows and forecast others."""

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from ode_runner.plots.figure_types import Figure
from ode_runner.plots.forecast import Line, draw_forecasts
from ode_runner.tasks.forecasting import Forecast
from ode_runner.tasks.series.series_pictures import SHOWN, SeriesPictures
from ode_runner.tasks.series.series_splits import Piece
from ode_runner.tasks.series.series_times import beyond as times_beyond

POINTS = 101  # points of a line


def draw_readings(
    pictures: SeriesPictures,
    pieces: Sequence[Piece],
    forecast: Callable[[Piece, np.ndarray], Forecast],
    *,
    fits: bool,
    beyond: Callable[[int, int], Piece],
    ahead: float | None,
) -> Figure:
    """The first series of some pieces: rows read, rows forecast, the model along both, and the forecast beyond the end.

    Args:
        pictures: of the series.
        pieces: pieces of the same series must be consecutive.
        forecast: the forecast at given times, by a model that has read the first rows of a piece.
        fits: whether the model also gives outputs at times between the rows read.
        beyond: the piece that is read of a series, given its number and the row up to which.
        ahead: how far a forecast goes beyond the end, in the file's unit of time.
    """
    by_series = {number: list(own) for number, own in groupby(pieces, key=lambda piece: piece.series)}
    panels = []
    for number, own in list(by_series.items())[:SHOWN]:
        end = times_beyond(pictures.recorded[number], pictures.read, ahead=ahead)[-1]
        times = np.append(pictures.recorded[number].times, end)
        after = beyond(number, len(times) - 1)
        solves = {"model, rows read first": [(own[0], own[0].begin, own[0].scored - 1)]} if fits else {}
        solves["forecast"] = [(piece, piece.scored - 1, piece.stop - 1) for piece in own]
        solves["forecast beyond the end"] = [(after, len(times) - 2, len(times) - 1)]
        lines: list[Line] = []
        for label, each in solves.items():
            found = [forecast(piece, np.linspace(times[i], times[j], POINTS)) for piece, i, j in each]
            lines.append(_joined(label, found, pictures, band="" if lines else found[0].band))  # named once
        read, asked = _rows(own, len(times) - 1)
        panels.append(pictures.panel(number, lines, read=read, asked=asked))
    return draw_forecasts(panels, pictures.read.values, pictures.read.time, series=len(by_series))


def draw_forecasts_of(pictures: SeriesPictures, found: Sequence[Forecast], pieces: Sequence[Piece]) -> Figure:
    """Forecasts with bands; rows read for each (a piece), and measurements in the range of its times, are marked."""
    panels = []
    for one, piece in zip(found[:SHOWN], pieces[:SHOWN], strict=True):
        times = pictures.recorded[piece.series].times
        known = piece._replace(stop=int((times <= one.times[-1]).sum()))
        read, asked = _rows([known], len(times))
        line = Line("forecast", pictures.axis(one.times), one.values, one.half_width, one.band)
        panels.append(pictures.panel(piece.series, [line], read=read, asked=asked))
    return draw_forecasts(panels, pictures.read.values, pictures.read.time, series=len(found))


def _rows(pieces: Sequence[Piece], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of `count` rows: those that are only read, and those that are asked for."""
    numbers = np.arange(count)
    read = np.any([(piece.begin <= numbers) & (numbers < piece.scored) for piece in pieces], axis=0)
    asked = np.any([(piece.scored <= numbers) & (numbers < piece.stop) for piece in pieces], axis=0)
    return read & ~asked, asked


def _joined(label: str, found: Sequence[Forecast], pictures: SeriesPictures, *, band: str) -> Line:
    """Several forecasts as one line, with a gap after each; `band` is the label of the band."""

    def with_gaps(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.concatenate([part, np.full_like(part[:1], np.nan)]) for part in parts])

    times = np.concatenate([np.append(one.times, one.times[-1]) for one in found])
    halves = [one.half_width for one in found if one.half_width is not None]
    half = with_gaps(halves) if halves else None
    return Line(label, pictures.axis(times), with_gaps([one.values for one in found]), half, band)
