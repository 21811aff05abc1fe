"""Hydra's sweeper for cells: every cell is looked at before one is launched, and what came of them is told."""

import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # the one that runs its jobs in turn
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ode_runner.ending import IN_USE, Ending, codes
from ode_runner.errors import RefusedInput
from ode_runner.signals import sigterm_interrupts
from ode_runner.sweeps.point import Outlook, Point, same_runs
from ode_runner.sweeps.progress import Progress

PATIENCE = 1.0  # seconds between looks at what another process runs


class Cells(Sweeper):
    """The product of all values typed, or set by a preset in conf/grid; a launcher runs those that are due."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(self, *, max_batch_size: int | None, params: Mapping[str, str] | None) -> None:
        super().__init__()
        self.max_batch_size = max_batch_size
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Looks at every cell, launches what is due, and leaves the exit code in `codes`."""
        from ode_runner.sweeps.forecast import Forecast
        from ode_runner.sweeps.look import record_incompatible

        folder = Path(os.path.relpath(self.config.hydra.sweep.dir))
        points = [self._look(name, overrides) for name, overrides in self._combinations(arguments)]
        same_runs(points)
        if self.config.plan:
            Forecast(points=points, folder=folder).show()
            return
        progress = Progress(points=points, folder=folder)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        with sigterm_interrupts():
            try:
                for point in points:
                    if point.outlook is Outlook.INCOMPATIBLE:
                        record_incompatible(point)
                progress.announce()
                self._run(progress)
            finally:
                progress.close()
        codes[:] = [progress.exit_code()]

    def _combinations(self, arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
        """Name and overrides of each cell; what is typed replaces what a preset says."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        typed = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        by_key = {override.get_key_element(): override for override in typed}
        swept = {key for key, override in by_key.items() if override.is_sweep_override()}
        for words in itertools.product(*(_words(key, override) for key, override in by_key.items())):
            named = [word.lstrip("+") for key, word in zip(by_key, words, strict=True) if key in swept]
            yield " ".join(named), list(words)

    def _look(self, name: str, overrides: list[str]) -> Point:
        from ode_runner.sweeps.look import look  # here, so that --cfg and TAB need not wait for torch

        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = 0
        folder = Path(os.path.relpath(Path(self.config.hydra.sweep.dir) / cfg.hydra.sweep.subdir))
        return look(name=name, overrides=overrides, cfg=cfg, folder=folder)

    def _run(self, progress: Progress) -> None:
        """All that is due, then once more what another process had in hand, when it lets go of it."""
        due = [point for point in progress.points if point.outlook.due]
        size = 1 if isinstance(self.launcher, BasicLauncher) else self.max_batch_size or len(due)
        for start in range(0, len(due), max(size, 1)):
            self._launch(due[start : start + size], progress, start)
        while waiting := [point for point in due if point.ending is not None and point.ending.status == IN_USE]:
            free = progress.wait(waiting, seconds=PATIENCE)
            self._launch(free, progress, 0)

    def _launch(self, points: Sequence[Point], progress: Progress, start: int) -> None:
        points = progress.still_due(points)
        if not points:
            return
        progress.begin(points)
        place = str(self.config.hydra.sweep.dir).replace("\\", "\\\\").replace("'", "\\'")
        jobs = [
            [*point.overrides, f"hydra.sweep.dir='{place}'"] for point in points
        ]  # another process has another argv
        try:
            returned = self.launcher.launch(jobs, initial_job_idx=start)
        except Exception as error:  # of the launcher: a worker that was killed, say
            print(f"ode-run: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
            return
        for point, job in zip(points, returned, strict=True):
            point.ending = Ending(*job.return_value)


def _words(key: str, override: Override) -> list[str]:
    """What may be typed for one option, a value at a time."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise RefusedInput(f"{override.input_line} names no values to run one after another. Use range(...) or a,b.")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
