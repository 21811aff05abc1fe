"""Writes the numbers of a run: metrics.jsonl, which has all, and loggers such as TensorBoard, which show them."""

import abc
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ode_runner.errors import RefusedInput
from ode_runner.recording.regular_file import NoRegularFile, check_regular
from ode_runner.recording.strict_json import numbers, to_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = "metrics.jsonl"  # name of the file
EVENTS = "events.out.tfevents.*"  # files of TensorBoard's, in a run folder


def has_events(folder: Path) -> bool:
    """Whether TensorBoard has something to show of a run."""
    return any(folder.glob(EVENTS))


class MetricLogger(abc.ABC):
    """Takes scalars, pictures and the summary of a run."""

    @abc.abstractmethod
    def log(self, scalars: Mapping[str, float], *, step: int) -> None: ...

    @abc.abstractmethod
    def picture(self, name: str, figure: "Figure", *, step: int) -> None: ...

    @abc.abstractmethod
    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float], config_yaml: str) -> None:
        """What was chosen beside the final metrics, for comparison across runs; and the whole configuration."""

    @abc.abstractmethod
    def close(self) -> None: ...


@final
class NullLogger(MetricLogger):
    """Keeps nothing beyond metrics.jsonl."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        del folder, first_step

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        del scalars, step

    def picture(self, name: str, figure: "Figure", *, step: int) -> None:
        del name, figure, step

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float], config_yaml: str) -> None:
        del hyperparameters, metrics, config_yaml

    def close(self) -> None: ...


@final
class TensorBoardLogger(MetricLogger):
    """Event files in the run folder itself, so that TensorBoard shows one run per folder.

    `first_step` is where this session begins: what an interrupted session wrote from there on is hidden.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second, and not every run wants it

        self._outer_hook, threading.excepthook = threading.excepthook, self._hook
        self.writer = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, figure: "Figure", *, step: int) -> None:
        self.writer.add_figure(f"plots/{name}", figure, step, close=False)

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float], config_yaml: str) -> None:
        from torch.utils.tensorboard.summary import hparams

        # SummaryWriter.add_hparams would open a second run; these records belong to this one. The first of three, the
        # list of options, is left out: TensorBoard would take that of one run for all, whose models have other options.
        _, begin, end = hparams(dict(hyperparameters), dict(metrics))
        for summary in (begin, end):
            self.writer._get_file_writer().add_summary(summary)
        self.writer.add_text("config", f"```yaml\n{config_yaml}```")

    def close(self) -> None:
        try:
            self.writer.close()
        finally:
            threading.excepthook = self._outer_hook

    def _hook(self, failed: threading.ExceptHookArgs) -> None:
        """Ignore a writer thread's OSError, as of a full disk: TensorBoard raises it again in the next call."""
        if not issubclass(failed.exc_type, OSError) or "tensorboard" not in type(failed.thread).__module__:
            self._outer_hook(failed)


class MetricsFile:
    """metrics.jsonl: one line per logged step.

    Raises:
        RefusedInput: a link stands in its place, and what that leads to would be written over; or a pipe or folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        if self.path.is_symlink():
            raise RefusedInput(f"{self.path} is a link, and a run writes into files of its own. Move it elsewhere.")
        try:
            check_regular(self.path)
        except FileNotFoundError:  # the run begins
            pass
        except NoRegularFile as error:
            raise RefusedInput(f"{self.path} is no file, and a run writes into one. Move it elsewhere.") from error
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, float]) -> None:
        self._file.write(to_json(row) + "\n")
        self._file.flush()

    def position(self) -> int:
        """Length in bytes, safely on disk."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def rewind(self, position: int) -> bool:
        """Cut the file to `position` bytes; resumed steps write the rest again.

        Returns False where the file is shorter. Then its whole lines are kept: truncating to more would add zeros.
        """
        content = self.path.read_bytes()[:position]
        self._file.truncate(position if len(content) == position else content.rfind(b"\n") + 1)
        return len(content) == position

    def rows(self) -> list[dict[str, float]]:
        """The numbers of every line that can be read."""
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError, AttributeError):  # torn, or no object
                rows.append(numbers(json.loads(line.strip("\0"))))  # zeros: of a version that filled it up
        return rows

    def close(self) -> None:
        self._file.close()
