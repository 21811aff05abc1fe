"""TensorBoard: curves, pictures, texts, and a table of all runs."""

import io
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from ode_runner.loggers.layout import layout
from ode_runner.recording.logger import MetricLogger

RGBA = 4  # number of channels, for Summary.Image


@final
class TensorBoardLogger(MetricLogger):
    """Writes event files into the run folder itself, so that TensorBoard shows one run per folder.

    Steps that an interrupted session wrote from `first_step` on are hidden.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second, and not every run needs it

        self._outer_hook, threading.excepthook = threading.excepthook, self._hook
        _wait_for_a_later_name(folder)
        self.writer = SummaryWriter(str(folder), purge_step=first_step)
        self._tags: set[str] = set()

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        if new := scalars.keys() - self._tags:
            self._tags |= new
            self.writer.add_custom_scalars(layout(self._tags))  # replaces the previous layout

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = Image.open(io.BytesIO(png)).size
        image = Summary.Image(width=width, height=height, colorspace=RGBA, encoded_image_string=png)
        value = Summary.Value(tag=f"plots/{name}", image=image)
        self.writer._get_file_writer().add_summary(Summary(value=[value]), step)

    def text(self, name: str, content: str) -> None:
        self.writer.add_text(name, content)

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        # SummaryWriter.add_hparams would start a second run; these records belong to this run. The first of the three,
        # the list of options, is left out: TensorBoard would use it for all runs, whose models have other options.
        _, begin, end = hparams(dict(hyperparameters), dict(metrics))
        for summary in (begin, end):
            self.writer._get_file_writer().add_summary(summary)

    def close(self) -> None:
        try:
            self.writer.close()
        finally:
            threading.excepthook = self._outer_hook

    def _hook(self, failed: threading.ExceptHookArgs) -> None:
        """Ignores an OSError of a writer thread, such as a full disk: TensorBoard raises it again in the next call."""
        if not issubclass(failed.exc_type, OSError) or "tensorboard" not in type(failed.thread).__module__:
            self._outer_hook(failed)


def _wait_for_a_later_name(folder: Path) -> None:
    """Waits until no event file in `folder` is named after the current second.

    TensorBoard reads event files in the order of their names. These hold the second, then the process and a counter
    without leading zeros, so of two files of one second, the resumed session may be read first and its steps hidden.
    """
    while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
        time.sleep(0.05)
