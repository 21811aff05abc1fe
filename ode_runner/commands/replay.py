"""`replay=`: repeats the solve on which a run failed, with the same numerics or others."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ode_runner.commands.trained_run import load_weights
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.crash_dump import CrashDump, check_finite
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import Phase, Tally
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.display import Display
from ode_runner.recording.record import RunStatus
from ode_runner.recording.status import status_of
from ode_runner.recording.strict_json import to_json


@dataclass(kw_only=True)
class ReplayResult:
    """The evaluations of a replay, and its loss or the failure that ended it."""

    forward: Tally
    backward: Tally
    loss: float | None = None
    failure: NumericalFailure | None = None


def replay(experiment: Experiment, crash_dump: CrashDump, *, about: str, changed: list[str], folder: Path) -> RunStatus:
    """Repeat the solve that failed, print whether it fails again, and write `replay.json` into `folder`.

    Args:
        experiment: the run's experiment, with the numerics typed now.
        crash_dump: batch, weights and random state of the failure.
        about: the choices, for the headline.
        changed: options that differ from the run's, as they are typed.
        folder: where to write.
    """
    display = Display()
    kind = "training" if crash_dump.learning else "evaluation"
    display.headline(f"{about} · {kind} {crash_dump.where}", folder)
    display.say(f"failed with: {crash_dump.message}")
    if experiment.options.compile != "off":
        display.say("steps are not compiled here, so that those of a run whose steps were may differ by rounding")
    result = solve_again(experiment, crash_dump)
    status = status_of(result.failure)[0] if result.failure else RunStatus.COMPLETED
    sentence = _outcome(result, crash_dump, changed)
    display.say(sentence, style="bold green" if status is RunStatus.COMPLETED else "bold red")
    content = {
        "status": status,
        "outcome": sentence,
        "changed": changed,
        "failed_with": crash_dump.message,
        "fails_with": str(result.failure) if result.failure else None,
        "loss": result.loss,
        "forward": vars(result.forward),
        "backward": vars(result.backward),
    }
    atomic_write(folder / "replay.json", lambda file: file.write(to_json(content, indent=2).encode()))
    display.say(f"recorded in {folder / 'replay.json'}")
    return status


def solve_again(experiment: Experiment, crash_dump: CrashDump) -> ReplayResult:
    """Solve the batch of the crash dump with its weights and random state, with the same checks as in a run.

    Raises:
        RefusedInput: the weights do not fit the model.
    """
    load_weights(experiment.model, crash_dump.weights, path=crash_dump.path)
    experiment.model.train(crash_dump.learning)
    batch, ledger = crash_dump.batch.to(experiment.dtype), experiment.integrator.ledger
    result = ReplayResult(forward=Tally(), backward=Tally())
    try:
        with crash_dump.random.again(), torch.set_grad_enabled(crash_dump.learning):
            with ledger.phase(Phase.DIAGNOSTICS) as result.forward:
                loss = experiment.loss(batch).total
            result.loss = float(loss.detach())
            check_finite(result.loss, "loss", crash_dump.where)
            if crash_dump.learning:
                with ledger.phase(Phase.DIAGNOSTICS) as result.backward:
                    parts = torch.autograd.grad(
                        loss, experiment.parameters(), allow_unused=True, materialize_grads=True
                    )
                check_finite(float(torch.nn.utils.get_total_norm(parts)), "gradient", crash_dump.where)
    except NumericalFailure as failure:
        result.failure = failure
    return result


def _outcome(result: ReplayResult, crash_dump: CrashDump, changed: list[str]) -> str:
    how = f"with {' '.join(changed)}" if changed else "with nothing changed"
    forward, backward = result.forward, result.backward
    evaluations = f"{forward.evaluations:,} + {backward.evaluations:,} evaluations"
    if result.failure is None:
        return (
            f"{how} it gets through: loss {result.loss:.4g}, {evaluations}, "
            f"{forward.accepted:,} accepted and {forward.rejected:,} rejected steps."
        )
    if str(result.failure) == crash_dump.message:
        return f"{how} it fails in the same way, after {evaluations}."
    return f"{how} it fails after {evaluations}: {result.failure}"
