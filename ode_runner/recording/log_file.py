"""ode-run.log: the printed lines without colours."""

import io
import logging
from contextlib import suppress
from pathlib import Path

from ode_runner.recording.regular_file import check_regular


class LogFile(logging.FileHandler):
    """Raises OSError where something else than a file stands in its place, which opening a pipe would wait for."""

    def _open(self) -> io.TextIOWrapper:
        with suppress(FileNotFoundError):
            check_regular(Path(self.baseFilename))
        return super()._open()
