"""Pruning: a search ends trials early, by Optuna's pruners, if they do worse than others did after as many epochs."""

from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner

from ode_runner.errors import Pruned, RefusedInput, as_typed
from ode_runner.recording.display import shown
from ode_runner.sweeps.study import NAME, WHAT, storage_in

PRUNERS: dict[str, type[BasePruner]] = {
    "median": MedianPruner,
    "hyperband": HyperbandPruner,
    "successive_halving": SuccessiveHalvingPruner,
}


def pruner(typed: Any) -> BasePruner:
    """The pruner that hydra.sweeper.pruner names, with Optuna's defaults, or the one that Hydra made of `_target_`.

    Raises:
        RefusedInput: there is no such pruner.
    """
    if isinstance(typed, BasePruner):
        return typed
    if isinstance(typed, str) and typed in PRUNERS:
        return PRUNERS[typed]()
    raise RefusedInput(
        f"hydra.sweeper.pruner={as_typed(typed)} is no pruner. There are {', '.join(PRUNERS)}; another of Optuna's is "
        "typed as {_target_: optuna.pruners.PercentilePruner, percentile: 25}."
    )


class PrunableTrial:
    """The trial of a search that a run belongs to, from the run's side; it may be in another process than the search.

    Args:
        folder: the folder of the search.
        number: the number of the trial.
        chosen_by: the pruner.
    """

    def __init__(self, folder: Path, *, number: int, chosen_by: BasePruner) -> None:
        self.folder, self.number, self.pruner = folder, number, chosen_by

    def judge(self, criterion: str, best: float, *, epoch: int) -> None:
        """Report the best validation so far to the study; raises Pruned if the pruner ends the trial.

        If validation uses another criterion than the search, nothing is reported, because nothing can be compared.
        """
        with storage_in(self.folder) as storage:
            study = optuna.load_study(storage=storage, study_name=NAME, pruner=self.pruner)
            if study.user_attrs[WHAT]["for"] != [f"eval/{criterion}"]:
                return
            identity = storage.get_trial_id_from_study_id_trial_number(
                storage.get_study_id_from_name(NAME), self.number
            )
            trial = optuna.trial.Trial(study, identity)
            trial.report(best, step=epoch)
            ends = trial.should_prune()
        if ends:
            raise Pruned(f"after epoch {epoch}, at {criterion} {shown(criterion, best)}")
