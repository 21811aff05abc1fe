"""ode-run.log: the printed lines without colours."""

import io
import logging
from contextlib import suppress
from pathlib import Path

from ode_runner.recording.regular_file import check_regular


class LogFile(logging.FileHandler):
    """A FileHandler that raises OSError if the path is not a regular file: opening a pipe would block."""

    def _open(self) -> io.TextIOWrapper:
        with suppress(FileNotFoundError):
            check_regular(Path(self.baseFilename))
        return super()._open()
