"""TensorBoard: curves, pictures, texts, and a table of all runs."""

import io
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from ode_runner.loggers.layout import layout
from ode_runner.recording.logger import MetricLogger

RGBA = 4  # of Summary.Image: the number of its channels


@final
class TensorBoardLogger(MetricLogger):
    """Event files in the run folder itself, so that TensorBoard shows one run per folder.

    What an interrupted session wrote from `first_step` on is hidden.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second, and not every run wants it

        self._outer_hook, threading.excepthook = threading.excepthook, self._hook
        _wait_for_a_later_name(folder)
        self.writer = SummaryWriter(str(folder), purge_step=first_step)
        self._tags: set[str] = set()

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        if new := scalars.keys() - self._tags:
            self._tags |= new
            self.writer.add_custom_scalars(layout(self._tags))  # in place of the one before

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

        # SummaryWriter.add_hparams would open a second run; these records belong to this one. The first of three, the
        # list of options, is left out: TensorBoard would take that of one run for all, whose models have other options.
        _, begin, end = hparams(dict(hyperparameters), dict(metrics))
        for summary in (begin, end):
            self.writer._get_file_writer().add_summary(summary)

    def close(self) -> None:
        try:
            self.writer.close()
        finally:
            threading.excepthook = self._outer_hook

    def _hook(self, failed: threading.ExceptHookArgs) -> None:
        """Ignore a writer thread's OSError, as of a full disk: TensorBoard raises it again in the next call."""
        if not issubclass(failed.exc_type, OSError) or "tensorboard" not in type(failed.thread).__module__:
            self._outer_hook(failed)


def _wait_for_a_later_name(folder: Path) -> None:
    """Until no event file in `folder` is of this second.

    TensorBoard reads event files in the order of their names, which hold the second, then the process and a counter
    without leading zeros: of two files of one second it may read the resumed session first and hide its steps.
    """
    while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
        time.sleep(0.05)
