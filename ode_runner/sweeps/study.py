"""The trials of a search: Optuna proposes them and receives their objectives; all is kept in one SQLite file."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DatabaseError

from ode_runner.errors import RefusedInput

FILE = "search.db"
NAME = "search"  # of the study in its file
WHAT = "what"  # attribute of the study with its space, fixed options and objectives
THINGS = "measured_with"  # attribute of the study: see Study.measured_with
PATIENCE_SECONDS = 60  # to wait for the file's lock: trials in other processes write to it, too
optuna.logging.set_verbosity(optuna.logging.WARNING)  # trials are reported by the sweeper


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A point of the space, and the values of its objectives once they are known."""

    number: int  # from 0, in the order in which trials were proposed
    params: Mapping[str, Any]
    values: Sequence[float] = ()


def open_storage(folder: Path) -> RDBStorage:
    """Open the file with the trials of a search."""
    return RDBStorage(f"sqlite:///{folder / FILE}", engine_kwargs={"connect_args": {"timeout": PATIENCE_SECONDS}})


def close_storage(storage: RDBStorage) -> None:
    """Close the file of a storage."""
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def storage_in(folder: Path) -> Iterator[RDBStorage]:
    """The file with the trials of a search, open inside the context."""
    storage = open_storage(folder)
    try:
        yield storage
    finally:
        close_storage(storage)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Says in a line that the file of a search cannot be used, as if it is damaged, or of another version of Optuna."""
    try:
        yield
    except (DatabaseError, StorageInternalError, RuntimeError) as error:
        causes = [getattr(one, "orig", None) for one in (error, error.__cause__)]  # without the statement in SQL
        cause = next((one for one in causes if one is not None), error)
        raise RefusedInput(
            f"{folder / FILE}, which keeps the trials of the search, cannot be used: {' '.join(str(cause).split())}. "
            "Type rerun=all to start over, or another sweep=NAME."
        ) from None


@contextmanager
def _same_values() -> Iterator[None]:
    """Says in a line that the search of this name was among other values, as Optuna finds when it proposes a trial."""
    try:
        yield
    except ValueError as error:
        raise RefusedInput(
            f"the search of this name was among other values: {error} Choose another name by sweep=NAME."
        ) from None


class Study:
    """The trials of one search, over all its sessions."""

    def __init__(
        self,
        folder: Path,
        *,
        space: Mapping[str, BaseDistribution],
        fixed: Sequence[str],  # overrides that all trials have in common, as typed
        objectives: Mapping[str, int],  # by name: +1 if higher is better, -1 if lower is
        sampler: Callable[..., BaseSampler],
        pruner: BasePruner | None,
        seed: int,
    ) -> None:
        self.space, self.directions = dict(space), list(objectives.values())
        self._directions = [
            StudyDirection.MAXIMIZE if direction > 0 else StudyDirection.MINIMIZE for direction in self.directions
        ]
        with _readable(folder):
            self._storage = open_storage(folder)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                load_if_exists=True,
                pruner=pruner or optuna.pruners.NopPruner(),
                directions=self._directions,
            )
        what = {"among": sorted(space), "with": sorted(fixed), "for": list(objectives)}
        if self._study.user_attrs.get(WHAT, what) != what:
            self.close()
            raise RefusedInput(f"{folder} holds another search. Choose another name for this one by sweep=NAME.")
        self._study.set_user_attr(WHAT, what)
        self._make_sampler, self._seed = sampler, seed

    def close(self) -> None:
        """Close the file."""
        close_storage(self._storage)

    @property
    def ended(self) -> int:
        """The number of trials that have ended, with or without a result."""
        return sum(trial.state.is_finished() for trial in self._study.trials)

    @property
    def pruned(self) -> int:
        """The number of trials that were ended early."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))

    def next(self, count: int, *, of: int, ended_its_process: Callable[[Trial], bool]) -> list[Trial]:
        """Up to `count` trials, so that there are at most `of` in all.

        Trials that an earlier session proposed but did not report come first; those that ended their process come last.

        Raises:
            RefusedInput: the space differs from that of the earlier trials.
        """
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        left = [
            _trial(trial) if trial.params.keys() == self.space.keys() else self._completed(trial) for trial in waiting
        ]
        if stopped := [trial for trial in left if not ended_its_process(trial)]:
            return stopped[:count]
        return [self._ask() for _ in range(min(count, of - self.ended - len(left)))] or left[:count]

    def _ask(self) -> Trial:
        """A new trial, from a sampler with its own seed: a resumed search proposes what an uninterrupted one would."""
        self._study.sampler = self._sampler(len(self._study.trials))
        with _same_values():
            trial = self._study.ask(self.space)
        return Trial(number=trial.number, params=trial.params)

    def _sampler(self, number: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # about options of the sampler
            return self._make_sampler(seed=self._seed + number)

    def _completed(self, trial: FrozenTrial) -> Trial:
        """A trial with all its values, if the process ended while it was proposed: Optuna stores one after another.

        They are those that it would have had. They are drawn in a copy of the study, because a sampler that finds the
        first values stored would draw others for the rest.
        """
        copy = optuna.create_study(sampler=self._sampler(trial.number), directions=self._directions)
        copy.add_trials(self._study.trials[: trial.number])
        with _same_values():
            drawn = copy.ask(self.space).params
            for name in self.space.keys() - trial.params.keys():
                one = self.space[name]
                self._storage.set_trial_param(trial._trial_id, name, one.to_internal_repr(drawn[name]), one)
        return Trial(number=trial.number, params={name: {**drawn, **trial.params}[name] for name in self.space})

    def measured_with(self, things: Mapping[str, str]) -> Mapping[str, str]:
        """What the objectives of this search are measured with: those of its first result, which may be this one."""
        if THINGS not in self._study.user_attrs:
            self._study.set_user_attr(THINGS, dict(things))
        found: Mapping[str, str] = self._study.user_attrs[THINGS]
        return found

    def tell(self, trial: Trial, values: Sequence[float] | None) -> None:
        """Report the objectives of a trial; None if it has no result."""
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(trial.number, values, state=state)

    def tell_pruned(self, trial: Trial) -> None:
        """Report that a trial was ended early; its validations until then were reported already."""
        self._study.tell(trial.number, state=TrialState.PRUNED)

    def front(self) -> list[Trial]:
        """The Pareto-optimal trials, the best in the first objective first."""
        best = [_trial(trial) for trial in self._study.best_trials]
        return sorted(best, key=lambda trial: (-self.directions[0] * trial.values[0], trial.number))


def distribution(override: Override) -> BaseDistribution:
    """Optuna's distribution for the values typed in Hydra's grammar; both ends of an interval are included.

    Raises:
        RefusedInput: Optuna does not accept these values.
    """
    values = override.value()
    try:
        if isinstance(values, IntervalSweep):
            return _numbers([values.start, values.end], log="log" in values.tags)
        if isinstance(values, RangeSweep) and "log" not in values.tags:
            return _numbers(list(values.range()), step=abs(values.step))
    except (TypeError, ValueError) as error:
        raise RefusedInput(f"{override.input_line}: {error}") from None
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _numbers(values: list[Any], **options: Any) -> BaseDistribution:
    """The distribution from the first to the last value; integers if all values are."""
    whole = all(isinstance(value, int) for value in values)
    return (IntDistribution if whole else FloatDistribution)(values[0], values[-1], **options)


def _trial(trial: FrozenTrial) -> Trial:
    return Trial(number=trial.number, params=trial.params, values=trial.values or ())
