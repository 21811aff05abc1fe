"""Series from another file, for a trained model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ode_runner.errors import RefusedInput
from ode_runner.tasks.missing_file import why_missing
from ode_runner.tasks.series.dates import FORM
from ode_runner.tasks.series.series_file import Recorded, SeriesFile, read_series
from ode_runner.tasks.series.series_roles import Roles
from ode_runner.tasks.series.table_file import columns_of


def read_like(
    trained: SeriesFile, path: Path, *, series: str | None, sort: bool, label: str | None = None
) -> SeriesFile:
    """The series of another file, which must have the columns of the file used for training.

    Args:
        trained: the contents of the training file.
        path: of the other file.
        series: the column that names the series of a row.
        sort: whether to sort rows by time.
        label: the column of classes, which the other file may lack.

    Raises:
        RefusedInput: a column is missing, times are dates in only one of the files, or `read_series` raises it.
    """
    if not path.is_file():
        raise RefusedInput(f"data={path}: {why_missing(path)}.")
    there = columns_of(path)
    wanted = [*([series] if series else []), trained.time, *trained.values, *trained.inputs]
    if missing := [name for name in wanted if name not in there]:
        raise RefusedInput(
            f"data={path} has the columns {', '.join(there)}, and the run was made with {', '.join(wanted)}. "
            f"Name {', '.join(missing)} as the run does."
        )
    roles = Roles(
        time=trained.time,
        series=series,
        values=tuple(trained.values),
        inputs=tuple(trained.inputs),
        label=label if label in there else None,
        sort=sort,
    )
    read = read_series(path, roles)
    if read.dates != trained.dates:
        is_now, was = ("dates", "numbers") if read.dates else ("numbers", "dates")
        form = f"Write dates, {FORM}." if trained.dates else "Write numbers in the unit of the run's file."
        raise RefusedInput(
            f"data={path}, column '{trained.time}': its times are {is_now}, those of the run {was}. {form}"
        )
    return read


def check_begins(series: Sequence[Recorded], read: SeriesFile) -> None:
    """Raises RefusedInput if a column has no value in a series, since the forecast would then have no initial value."""
    for one in series:
        for place, column in enumerate(read.values):
            if np.isnan(one.values[:, place]).all():
                of = f" of series {one.name}" if one.name else ""
                raise RefusedInput(
                    f"{read.path}, column '{column}'{of}: blank in all rows, and a forecast begins at a value of each."
                )
