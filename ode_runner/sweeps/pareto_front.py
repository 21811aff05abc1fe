"""The Pareto front of a search: the trials that no other beats in every objective, printed and written as csv."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import counted, shown
from ode_runner.report.rows import plain
from ode_runner.sweeps.objectives import Objective

if TYPE_CHECKING:  # Optuna need not be installed to plan
    from ode_runner.sweeps.study import Trial

FILE = "front.csv"


@dataclass(kw_only=True)
class ParetoFront:
    """Trials with their run folders, the best in the first objective first; a run that was found twice is one row."""

    objectives: Sequence[Objective]
    folder: Path
    rows: "list[tuple[Trial, Path]]" = field(default_factory=list)

    def add(self, trial: "Trial", folder: Path) -> None:
        if folder not in [known for _, known in self.rows]:
            self.rows.append((trial, folder))

    def show(self, *, ended: int, pruned: int) -> None:
        """Print the table and write it into the sweep's folder; `pruned` of the `ended` trials were ended early."""
        trials = f"{counted(ended, 'trial')}{f' ({pruned} pruned)' if pruned else ''}"
        if not self.rows:
            print(f"\nnone of {trials} has come to a result")
            return
        names = " and ".join(objective.name for objective in self.objectives)
        what = "the best" if len(self.objectives) == 1 else "Pareto front"
        print(f"\n{what} of {trials}, by {names}:")
        for line in self._lines():
            print(f"  {line}")
        self._write(self.folder / FILE)
        print(f"written to {self.folder / FILE}")

    def _lines(self) -> list[str]:
        head = [*(objective.name for objective in self.objectives), "trial", *self._options(), "run folder"]
        table = [head]
        for trial, folder in self.rows:
            values = [
                shown(objective.name, value) for objective, value in zip(self.objectives, trial.values, strict=True)
            ]
            params = [plain(trial.params.get(name)) for name in self._options()]
            table.append([*values, str(trial.number), *params, str(folder.relative_to(self.folder))])
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        return [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]

    def _write(self, path: Path) -> None:
        header = [*(objective.name for objective in self.objectives), "trial", *self._options(), "folder"]
        rows = [
            [*trial.values, trial.number, *map(trial.params.get, self._options()), folder.relative_to(self.folder)]
            for trial, folder in self.rows
        ]
        write_csv(path, header, rows)

    def _options(self) -> list[str]:
        """The names of all options that were searched; the space may have changed between sessions."""
        return list(dict.fromkeys(name for trial, _ in self.rows for name in trial.params))
