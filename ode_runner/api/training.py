"""Training a run from Python."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ode_runner.api.composing import check_texts, composed
from ode_runner.api.loading import load
from ode_runner.api.run import Run
from ode_runner.build import plan_run
from ode_runner.config.command_files import command_files
from ode_runner.config.command_names import is_command
from ode_runner.errors import RefusedInput
from ode_runner.experiment.process_state import unchanged
from ode_runner.recording.fresh_folder import note_missing
from ode_runner.recording.log_file import LogFile
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.relative_path import relative_path
from ode_runner.training.run import execute


class RunFailed(RuntimeError):
    """A run that did not complete; its record says how far it got."""

    def __init__(self, record: RunRecord, folder: Path) -> None:
        super().__init__(f"{record.status}: {record.reason} ({folder})")
        self.record, self.folder = record, folder


def train(*overrides: str, config_dirs: Sequence[str | os.PathLike[str]] = ()) -> Run:
    """Trains the run that `ode-run` would train for the same overrides, in the same folder, and returns it.

    A completed run is loaded; an interrupted one is resumed.

    Args:
        overrides: as typed after `ode-run`: "task=digits", "solver=rk4", "trainer.epochs=3".
        config_dirs: folders of the user's own choices, as for -cd.

    Raises:
        RefusedInput: the command line would refuse the overrides.
        RunFailed: the run diverged, or failed otherwise.
        KeyboardInterrupt: it was interrupted, after it had saved its progress, or as it ended.
    """
    check_texts(overrides)
    if is_command(overrides) or "plan=true" in overrides:
        raise RefusedInput("train makes a run. What is asked about one is asked of the object: ode.load(folder).")
    with composed(overrides, config_dirs=config_dirs) as cfg, unchanged():
        folder = relative_path(cfg.hydra.run.dir)
        note_missing(folder)
        choices = cfg.hydra.runtime.choices
        plan = plan_run(cfg, choices, folder, command_files=command_files(cfg), in_sweep=False)
        with _logged_to(folder / "ode-run.log"):
            record = execute(plan, goes_on=True)
    if record.status is RunStatus.INTERRUPTED:
        raise KeyboardInterrupt(record.reason)
    if record.status is not RunStatus.COMPLETED:
        raise RunFailed(record, folder)
    return load(folder, config_dirs=config_dirs, trust=True)


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Messages of the program are also written to the run's log, as Hydra does on the command line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = LogFile(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("ode_runner")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        handler.close()
