"""Hydra's sweeper for searches: Optuna proposes cells and receives the objectives that each reaches."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from ode_runner.commands.run_folders import NOT_IN_SWEEP_NAME
from ode_runner.config.exit_codes import ExitCode, set_exit_code
from ode_runner.config.messages import readable_message
from ode_runner.config.rerun import Rerun
from ode_runner.config.set_options import completed
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.recording.lock import lock
from ode_runner.recording.record import RunStatus
from ode_runner.recording.relative_path import relative_path
from ode_runner.report.rows import plain
from ode_runner.sweeps.dispatch import check_launcher
from ode_runner.sweeps.launchers import BASIC_LAUNCHER, JOBLIB_LAUNCHER
from ode_runner.sweeps.progress import Progress
from ode_runner.sweeps.sweep_cell import SweepCell
from ode_runner.sweeps.sweeper import CellSweeper
from ode_runner.sweeps.trial_of_job import override_for

if TYPE_CHECKING:  # importing Optuna takes half a second, which --cfg and TAB should not wait for
    from ode_runner.sweeps.objectives import Objective
    from ode_runner.sweeps.study import Study, Trial


class SearchSweeper(CellSweeper):
    """Runs a number of trials among the values typed or set by a preset in conf/search.

    Every trial is an ordinary run. Trials that an earlier session proposed but did not finish come first; those that
    ended their process come last.
    """

    def __init__(
        self,
        *,
        trials: int,
        objectives: Sequence[str],
        max_batch_size: int | None,
        params: Mapping[str, str] | None,
        sampler: Callable[..., Any],
        pruner: Any,
        cells: Sequence[object] | None = None,  # what a preset in conf/grid has set
    ) -> None:
        super().__init__(max_batch_size=max_batch_size, params=params, cells=cells)
        if cells is not None:
            raise RefusedInput(
                "hydra.sweeper.cells lists the cells of a sweep, and a search chooses its own. Leave it out."
            )
        if type(trials) is not int or trials < 1:
            raise RefusedInput(f"hydra.sweeper.trials={as_typed(trials)} is no whole number from 1 on.")
        self.trials, self.names, self.sampler, self.pruner = trials, list(objectives), sampler, pruner

    def sweep(self, arguments: list[str]) -> None:
        """Propose, launch and report trials until all have ended, and set the exit code of the command."""
        by_key = self.typed(arguments)
        wanted, folder = self._objectives(by_key), relative_path(self.config.hydra.sweep.dir)
        if self.config.plan:
            self._plan(by_key, wanted, folder)
            return
        check_launcher(self.config.hydra.launcher._target_)
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder), closing(self._study(by_key, wanted, folder)) as study:  # a second driver would take trials
            expected = max(self.trials - study.ended, 0)  # that the first is running for unfinished ones
            try:
                progress = Progress(cells=[], folder=folder, expected=expected, objectives=wanted)
                with self.under_way(progress):
                    ended = partial(self._ended_its_process, by_key)
                    while trials := study.next(self.max_batch_size or 1, of=self.trials, ended_its_process=ended):
                        self._try(trials, study, by_key, wanted, progress)
            finally:
                found = self._front(study, by_key, wanted, folder)
        set_exit_code(ExitCode.COMPLETED if found else ExitCode.FAILED)

    def _objectives(self, by_key: Mapping[str, Override]) -> "list[Objective]":
        from ode_runner.sweeps.objectives import check_prunable
        from ode_runner.sweeps.rankable import check_rankable, check_same_data, kinds_of_trials

        swept = [key for key, override in by_key.items() if override.is_sweep_override()]
        if "task" in swept or not swept:
            raise RefusedInput(
                "a search is for one task, among several values of an option: ode-run search=digits, say."
            )
        check_same_data(swept)
        kinds, launcher = kinds_of_trials(by_key, self._composed), self.config.hydra.launcher._target_
        builds = launcher in (BASIC_LAUNCHER, JOBLIB_LAUNCHER)  # other machines may have what is missing here
        wanted = check_rankable(kinds, self.names, builds=builds)
        if self.pruner is not None:
            from ode_runner.sweeps.pruning import pruner

            self.pruner = pruner(self.pruner)
            [measured] = check_rankable(kinds, ["objective"], builds=False)
            check_prunable(wanted, measured, launcher=launcher)
        return wanted

    def _composed(self, words: list[str]) -> DictConfig:
        return self.hydra_context.config_loader.load_sweep_config(self.config, completed(words))

    def _study(self, by_key: Mapping[str, Override], wanted: "Sequence[Objective]", folder: Path) -> "Study":
        from ode_runner.sweeps.study import FILE, Study, distribution

        space = {key: distribution(override) for key, override in by_key.items() if override.is_sweep_override()}
        fixed = [str(override.input_line) for key, override in by_key.items() if key not in space]
        if Rerun.of(self.config.rerun) is Rerun.ALL:
            (folder / FILE).unlink(missing_ok=True)
        return Study(
            folder,
            space=space,
            fixed=[word for word in fixed if not word.startswith(NOT_IN_SWEEP_NAME)],
            objectives={objective.name: objective.direction for objective in wanted},
            sampler=self.sampler,
            pruner=self.pruner,
            seed=self.config.seed,
        )

    def _try(
        self,
        trials: "Sequence[Trial]",
        study: "Study",
        by_key: Mapping[str, Override],
        wanted: "Sequence[Objective]",
        progress: Progress,
    ) -> None:
        """Run the trials that have not run yet and report their objectives; a trial without a result has failed."""
        from ode_runner.sweeps.inspection import record_unrun

        cells: dict[int, SweepCell] = {}
        for trial in trials:
            try:
                cells[trial.number] = cell = self._cell(trial, by_key)
            except (RefusedInput, HydraException) as error:  # for example if this solver has no such option
                print(f"ode-run: skipped: {readable_message(error, _words(trial, by_key))}", file=sys.stderr)
                continue
            record_unrun(cell)
        progress.cells += cells.values()
        progress.announce(list(cells.values()))
        self.run(list(cells.values()), progress)
        for trial in trials:
            _report(trial, cells.get(trial.number), study, wanted)

    def _ended_its_process(self, by_key: Mapping[str, Override], trial: "Trial") -> bool:
        try:
            return self._cell(trial, by_key).aborted_attempts > 0
        except (RefusedInput, HydraException):  # it was never begun
            return False

    def _cell(self, trial: "Trial", by_key: Mapping[str, Override]) -> SweepCell:
        """The cell of a trial, as if it had been typed."""
        shown = [f"{key.lstrip('+')}={plain(value)}" for key, value in trial.params.items()]
        words = _words(trial, by_key)
        if self.pruner is not None:
            words.append(override_for(trial.number))
        return self.inspect_cell(f"trial {trial.number}: {' '.join(shown)}", words)

    def _front(
        self, study: "Study", by_key: Mapping[str, Override], wanted: "Sequence[Objective]", folder: Path
    ) -> bool:
        """Print and write the Pareto front; returns whether any trial is on it."""
        from ode_runner.report.remarks import own_versions
        from ode_runner.report.runs import find_runs
        from ode_runner.sweeps.pareto_front import ParetoFront

        front = ParetoFront(objectives=wanted, folder=folder)
        for trial in study.front():
            front.add(trial, self._cell(trial, by_key).folder)
        front.show(ended=study.ended, pruned=study.pruned)
        for sentence in own_versions(find_runs([folder]).runs, what="trials") if front.rows else ():
            print(f"note: {sentence}")
        return bool(front.rows)

    def _plan(self, by_key: Mapping[str, Override], wanted: "Sequence[Objective]", folder: Path) -> None:
        """Print the space and the objectives; which cells are tried is known only during the search."""
        from ode_runner.sweeps.study import FILE

        for key, override in by_key.items():
            if override.is_sweep_override():
                print(f"among   {key}: {str(override.input_line).partition('=')[2]}")
        for objective in wanted:
            print(f"{'highest' if objective.direction > 0 else 'lowest':<7} {objective.name}")
        if self.pruner is not None:
            print(f"ended early by {type(self.pruner).__name__}")
        begun = "goes on with" if (folder / FILE).is_file() else "a search of"
        print(f"{begun} {self.trials} trials      {folder}")
        print("nothing was started; leave out plan=true to run")


def _words(trial: "Trial", by_key: Mapping[str, Override]) -> list[str]:
    """The overrides of the run of a trial."""
    return completed(
        [
            f"{key}={trial.params[key]}" if key in trial.params else str(override.input_line)
            for key, override in by_key.items()
        ]
    )


def _report(trial: "Trial", cell: SweepCell | None, study: "Study", wanted: "Sequence[Objective]") -> None:
    """Report to the study the objectives that a trial has reached, or that it was pruned or has no result."""
    from ode_runner.sweeps.objectives import check_same_thing, measured_with, reached

    values, record = None, None if cell is None else cell.recorded()
    if record is not None and record.status is RunStatus.PRUNED:
        study.tell_pruned(trial)
        return
    if cell is not None and record is not None and record.status is RunStatus.COMPLETED:
        try:
            found, things = reached(record, cell.folder, wanted), measured_with(record, wanted)
            check_same_thing(things, study.measured_with(things))
            values = found
        except RefusedInput as refusal:
            print(f"ode-run: {cell.name} does not count: {refusal}", file=sys.stderr)
    study.tell(trial, values)
