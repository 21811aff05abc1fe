"""Hydra's sweeper for products of values and listed cells: inspects cells, launches those due, reports results."""

import itertools
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ode_runner.config.exit_codes import set_exit_code
from ode_runner.config.messages import readable_message
from ode_runner.config.set_options import completed
from ode_runner.config.unused_words import check_sweepable
from ode_runner.config.yaml_faults import of_a_file
from ode_runner.distributed.ranks import Rank
from ode_runner.errors import RefusedInput
from ode_runner.experiment.signals import sigterm_interrupts
from ode_runner.recording.relative_path import relative_path
from ode_runner.recording.repeated_remarks import each_once
from ode_runner.recording.unbegun import note_due
from ode_runner.sweeps.dispatch import Dispatch, check_launcher, in_sweep
from ode_runner.sweeps.launchers import BASIC_LAUNCHER, JOBLIB_LAUNCHER
from ode_runner.sweeps.listed import check_apart, listed
from ode_runner.sweeps.progress import Progress
from ode_runner.sweeps.sweep_cell import BrokenCell, CellState, SweepCell, due_cells, mark_duplicates


def register(name: str, sweeper: type[Sweeper]) -> None:
    """Register a sweeper with Hydra under the name in its yaml in conf/hydra/sweeper.

    Hydra accepts only plugins with names in the namespace `hydra_plugins`, and this package has no such folder.
    """
    Plugins.instance().class_name_to_class[f"hydra_plugins.ode_runner.{name}"] = sweeper


class CellSweeper(Sweeper):
    """Runs the product of all values typed or set by a preset in conf/grid; a launcher runs the cells that are due.

    `cells` lists options of several cells, each of which is combined with that product.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(
        self, *, max_batch_size: int | None, params: Mapping[str, str] | None, cells: Sequence[object] | None
    ) -> None:
        super().__init__()
        self.max_batch_size, self.cells = max_batch_size, cells
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        if (rank := Rank.of_this_process()) is not None:
            alone = f"ode-run {shlex.join(sys.argv[1:])} processes={rank.size}"
            raise RefusedInput(
                "torchrun starts the processes of one run, and this is a sweep. Start it without torchrun, and each of "
                f"its runs is over {rank.size} processes of this machine: {alone}"
            )
        try:
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )
        except RuntimeError as error:  # the launcher is not installed
            raise RefusedInput(str(error)) from error

    def sweep(self, arguments: list[str]) -> None:
        """Inspect every cell, launch those that are due, and set the exit code of the command."""
        from ode_runner.sweeps.feasibility import check_one_possible
        from ode_runner.sweeps.inspection import record_unrun
        from ode_runner.sweeps.sweep_plan import SweepPlan

        folder = relative_path(self.config.hydra.sweep.dir)
        cells, broken = self._inspected(arguments)
        mark_duplicates(cells)
        if self.config.plan:
            SweepPlan(cells=cells, folder=folder, broken=broken).show()
            return
        if self.config.hydra.launcher._target_ in (BASIC_LAUNCHER, JOBLIB_LAUNCHER):  # others run on other machines
            with sigterm_interrupts():
                check_one_possible(cells)
        if due_cells(cells):
            check_launcher(self.config.hydra.launcher._target_)
        with self.under_way(Progress(cells=cells, folder=folder, broken=broken)) as progress:
            for cell in cells:
                record_unrun(cell)
            progress.announce(cells)
            self.run(cells, progress)
        set_exit_code(progress.exit_code())

    def _inspected(self, arguments: list[str]) -> tuple[list[SweepCell], list[BrokenCell]]:
        """The cells, and those whose yaml files cannot be composed, which cost the others nothing.

        Raises:
            RefusedInput, or an error of Hydra's: all are such, or what was typed for one is at fault.
        """
        cells, broken, first = list[SweepCell](), list[BrokenCell](), None
        for name, words in self._combinations(arguments):
            try:
                cells.append(self.inspect_cell(name, completed(words)))
            except (HydraException, RefusedInput) as error:
                if not of_a_file(error, words):
                    raise
                first = first or error
                broken.append(BrokenCell(name=name, reason=readable_message(error, words)))
        if first is not None and not cells:
            raise first
        return cells, broken

    @contextmanager
    def under_way(self, progress: Progress) -> Iterator[Progress]:
        """Context around the cells' runs: writes multirun.yaml first, and prints the results however they end."""
        written = progress.folder / "multirun.yaml"
        finished = progress.cells and not due_cells(progress.cells)  # then the disk may be read-only
        if not (finished and written.exists()):
            progress.folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, written)
            _note_due(progress)
        with sigterm_interrupts(), each_once():
            try:
                progress.open()
                yield progress
            finally:
                if not finished:
                    _note_due(progress)
                progress.close()

    def typed(self, arguments: list[str]) -> dict[str, Override]:
        """The overrides by option; a typed one replaces that of a preset."""
        typed = self._parser().parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        by_key = {override.get_key_element(): override for override in typed}
        check_sweepable(by_key)
        return by_key

    def _parser(self) -> OverridesParser:
        return OverridesParser.create(config_loader=self.hydra_context.config_loader)

    def _combinations(self, arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
        """Name and overrides of each cell, as typed."""
        typed = self.typed(arguments)
        for cell in listed(self.cells, self._parser()):
            check_apart(cell, typed)
            by_key = cell | typed
            named = [*cell, *(key for key, override in typed.items() if override.is_sweep_override())]
            for words in itertools.product(*(_words(key, override) for key, override in by_key.items())):
                shown = [word.lstrip("+") for key, word in zip(by_key, words, strict=True) if key in named]
                yield " ".join(shown), list(words)

    def inspect_cell(self, name: str, overrides: list[str]) -> SweepCell:
        from ode_runner.sweeps.inspection import (  # here, so that --cfg and TAB do not wait for torch
            inspect_cell,
            reason_passed_over,
        )

        words = in_sweep(overrides, str(self.config.hydra.sweep.dir))  # as it is run
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, words)
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = 0
        folder = relative_path(Path(self.config.hydra.sweep.dir) / cfg.hydra.sweep.subdir)
        cell = inspect_cell(name=name, overrides=overrides, cfg=cfg, folder=folder)
        if cell.state.due and (reason := reason_passed_over(cell)):
            cell.state, cell.remark = CellState.PASSED_OVER, reason
        return cell

    def run(self, cells: Sequence[SweepCell], progress: Progress) -> None:
        """Run the cells that are due."""
        dispatch = Dispatch(
            launcher=self.launcher,
            target=self.config.hydra.launcher._target_,
            at_once=self.max_batch_size,
            sweep_dir=str(self.config.hydra.sweep.dir),
            progress=progress,
        )
        dispatch.run(cells)


def _note_due(progress: Progress) -> None:
    """Note the cells that have no result, for reports on a sweep that is stopped, or ends without a word."""
    due = [] if progress.is_of_commands() else [cell for cell in due_cells(progress.cells) if cell.result is None]
    note_due(progress.folder, {cell.folder: cell.record for cell in due})


def _words(key: str, override: Override) -> list[str]:
    """An override for each value of a swept option."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise RefusedInput(f"{override.input_line} names no values to run one after another. Use range(...) or a,b.")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
