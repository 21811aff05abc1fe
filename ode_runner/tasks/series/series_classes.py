"""The task of classifying the user's series, read from a file with a label for each."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.controls.series import Series
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import UNKNOWN, Samples
from ode_runner.tasks.own_data import OwnDataTask
from ode_runner.tasks.series.series_classification import LabelledSeries, SeriesClassification
from ode_runner.tasks.series.series_file import Recorded, content_of, find_file, read_series
from ode_runner.tasks.series.series_new import read_like
from ode_runner.tasks.series.series_roles import Roles
from ode_runner.tasks.series.series_scaling import Scaling, measured_scaling
from ode_runner.tasks.series.series_splits import drawn_parts, share_of


@final
class SeriesClasses(SeriesClassification, OwnDataTask):
    """Series of a file with irregular times and blank cells; the column `label` names the class of each.

    Whole series are held back, the same ones for every seed. Values are standardised over the training series. The unit
    of time is the one in which values change by about a radian there.
    """

    def __init__(
        self,
        *,
        file: str,
        time: str | None,
        series: str,
        values: list[str] | None,
        label: str,
        sort: bool,
        validation: float,
        test: float,
        seed: int,
        device: torch.device,
    ) -> None:
        roles = {"time": time, "series": series, "values": values, "label": label, "sort": sort}
        self.series, self.label, self.sort = series, label, sort
        self.read = read_series(find_file(file), Roles.of(roles))
        self.class_labels = self._labels_of(label)
        self.recorded = self.read.recorded()
        held = {"validation": share_of(validation, len(self.recorded)), "test": share_of(test, len(self.recorded))}
        if len(self.recorded) - sum(held.values()) < 2 or min(validation, test) < 0:
            raise RefusedInput(
                f"{self.read.path} has {len(self.recorded)} series, of which task.validation={validation} and "
                f"task.test={test} leave less than 2 to learn from."
            )
        self.parts = drawn_parts(len(self.recorded), **held)
        self._check_labels(label)
        self.scales = self._scaling()
        super().__init__(
            {split: self._labelled(own) for split, own in self.parts.items()},
            classes=len(self.class_labels),
            seed=seed,
            device=device,
        )

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        return {"file": content_of(str(options.get("file")), Roles.of(options))}

    def with_data(self, path: Path) -> Self:
        new = copy.copy(self)
        new.read = read_like(self.read, path, series=self.series, sort=self.sort, label=self.label)
        new.recorded = new.read.recorded()
        if not self.spec.blanks and any(np.isnan(one.values).any() for one in new.recorded):
            raise RefusedInput(f"data={path} has blank cells, and the series that the run has learned from have none.")
        for one in new.recorded:
            if one.label is not None and one.label not in self.class_labels:
                raise RefusedInput(
                    f"{path}, row {one.first}: the run knows no class {one.label!r}. It knows: "
                    f"{', '.join(self.class_labels)}. Leave the column '{self.label}' out where classes are not known."
                )
        new.parts = dict.fromkeys(Split, list(range(len(new.recorded))))
        labelled = new._labelled(new.parts[Split.TEST])
        samples = Samples(labelled.series.rows(), labelled.labels).to(self.splits[Split.TEST].inputs.device)
        new.splits = dict.fromkeys(Split, samples)
        return new

    @property
    def class_names(self) -> Sequence[str]:
        return self.class_labels

    @property
    def sample_names(self) -> Sequence[str]:
        return [self.recorded[i].name for i in self.parts[Split.TEST]]

    def statistics(self) -> dict[str, Tensor]:
        return self.scales.state_dict()

    def introduction(self) -> Iterator[str]:
        rows = [len(one.times) for one in self.recorded]
        blank = np.mean([np.isnan(one.values).mean() for one in self.recorded])
        spread = f"{min(rows)} to {max(rows)} rows"
        yield f"read {self.read.path}: {len(rows)} series of {spread}, {blank:.1%} of values blank"
        for number, name in enumerate(self.class_labels):
            counts = [sum(self.recorded[i].label == name for i in own) for own in self.parts.values()]
            summary = ", ".join(f"{count} {split}" for split, count in zip(self.parts, counts, strict=True))
            yield f"  class {number}: {name} ({summary})"

    def _labels_of(self, column: str) -> list[str]:
        """The sorted labels of the file, each once.

        Raises:
            RefusedInput: a series has no label.
        """
        for one in self.read.series:
            if one.label is None:
                raise RefusedInput(
                    f"{self.read.path}, row {one.first}, column '{column}': series {one.name} has no label. Write it, "
                    "or leave the series out."
                )
        return sorted({str(one.label) for one in self.read.series})

    def _check_labels(self, column: str) -> None:
        if len(self.class_labels) < 2:
            raise RefusedInput(
                f"{self.read.path}, column '{column}': every series is labelled {self.class_labels[0]!r}, and two "
                "labels are the least."
            )
        training = {self.recorded[i].label for i in self.parts[Split.TRAIN]}
        for name in self.class_labels:
            if name not in training:
                raise RefusedInput(
                    f"{self.read.path}, column '{column}': no series to learn from is labelled {name!r}. Give more "
                    "series, or smaller task.validation and task.test."
                )

    def _scaling(self) -> Scaling:
        training = [self.recorded[i] for i in self.parts[Split.TRAIN]]
        return measured_scaling(
            [one.values for one in training],
            [one.inputs for one in training],
            [one.times - one.times[0] for one in training],
            log=[False] * len(self.read.values),
            standard=True,
            unit=None,
        )

    def _labelled(self, own: Sequence[int]) -> LabelledSeries:
        """The series with these indices, padded to the length of the longest of them."""
        chosen, rows = [self.recorded[i] for i in own], max(len(one.times) for one in self.recorded)
        series = Series(
            times=torch.stack([self._times(one, rows) for one in chosen]),
            values=torch.stack([self._values(one, rows) for one in chosen]),
            lengths=torch.tensor([len(one.times) for one in chosen]),
        )
        return LabelledSeries(series, torch.tensor([self._number_of(one.label) for one in chosen]))

    def _number_of(self, label: str | None) -> int:
        return UNKNOWN if label is None else self.class_labels.index(label)

    def _times(self, one: Recorded, rows: int) -> Tensor:
        """Times from 0, in the model's unit; float32, as in the other tasks of series."""
        times = torch.from_numpy((one.times - one.times[0]) / float(self.scales.unit))
        return torch.cat([times, times[-1:].expand(rows - len(times))]).float()

    def _values(self, one: Recorded, rows: int) -> Tensor:
        values = self.scales.scaled(one.values)
        return torch.cat([values, values[-1:].expand(rows - len(values), -1)]).float()
