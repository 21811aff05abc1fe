"""metrics.csv for spreadsheets: a row for each call of `log`, and a column for each quantity."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.logger import MetricLogger

FILE = "metrics.csv"
STEP = "step"


@final
class CsvLogger(MetricLogger):
    """Writes numbers only. A field is empty if its quantity was not measured.

    The file is rewritten when there is a new column, which happens a few times in the first epoch. Rows that an
    interrupted session wrote from `first_step` on are dropped.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        self.path = folder / FILE
        earlier = _rows(self.path)
        self._rows = [row for row in earlier if int(row[STEP]) < first_step]
        self._columns = list(dict.fromkeys([STEP, *(name for row in self._rows for name in row)]))
        self._write()

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        row = {STEP: str(step), **{name: repr(float(value)) for name, value in scalars.items()}}
        self._rows.append(row)
        if new := [name for name in row if name not in self._columns]:
            self._columns += new
            self._write()
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([row.get(name) for name in self._columns])

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        del name, png, step

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        del hyperparameters, metrics

    def close(self) -> None: ...

    def _write(self) -> None:
        write_csv(self.path, self._columns, [[row.get(name) for name in self._columns] for row in self._rows])


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier session, without an incomplete line."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    kept = [{name: value for name, value in row.items() if name and value} for row in read]
    return [row for row in kept if row.get(STEP, "").isdigit()]
