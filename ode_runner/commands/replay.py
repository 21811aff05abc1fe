"""`replay=`: the solve on which a run failed, made again under the same numerics or others."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ode_runner.commands.trained_run import take_up
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.crash_dump import CrashDump, check_finite
from ode_runner.experiment.experiment import Experiment
from ode_runner.field import Phase, Tally
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.display import Display
from ode_runner.recording.record import RunStatus
from ode_runner.recording.status import status_of
from ode_runner.recording.strict_json import to_json


@dataclass(kw_only=True)
class Attempt:
    """How far a replay came."""

    forward: Tally
    backward: Tally
    loss: float | None = None
    failure: NumericalFailure | None = None


def replay(experiment: Experiment, crash_dump: CrashDump, *, about: str, changed: list[str], folder: Path) -> RunStatus:
    """Do again what failed; says whether it fails again, and writes `replay.json` into `folder`.

    `changed` is what was typed besides: with other numerics, the question is whether those would have got through.
    """
    display = Display()
    kind = "training" if crash_dump.learning else "evaluation"
    display.headline(f"{about} · {kind} {crash_dump.where}", folder)
    display.say(f"failed with: {crash_dump.message}")
    if experiment.options.compile != "off":
        display.say("steps are not compiled here, so that those of a run whose steps were may differ by rounding")
    attempt = again(experiment, crash_dump)
    status = status_of(attempt.failure)[0] if attempt.failure else RunStatus.COMPLETED
    sentence = _outcome(attempt, crash_dump, changed)
    display.say(sentence, style="bold green" if status is RunStatus.COMPLETED else "bold red")
    content = {
        "status": status,
        "outcome": sentence,
        "changed": changed,
        "failed_with": crash_dump.message,
        "fails_with": str(attempt.failure) if attempt.failure else None,
        "loss": attempt.loss,
        "forward": vars(attempt.forward),
        "backward": vars(attempt.backward),
    }
    atomic_write(folder / "replay.json", lambda file: file.write(to_json(content, indent=2).encode()))
    display.say(f"recorded in {folder / 'replay.json'}")
    return status


def again(experiment: Experiment, crash_dump: CrashDump) -> Attempt:
    """The evidence's batch through the evidence's weights, in the order of checks that the run has."""
    take_up(experiment.model, crash_dump.weights, path=crash_dump.path)
    experiment.model.train(crash_dump.learning)
    batch, ledger = crash_dump.batch.to(experiment.dtype), experiment.integrator.ledger
    attempt = Attempt(forward=Tally(), backward=Tally())
    try:
        with crash_dump.random.again(), torch.set_grad_enabled(crash_dump.learning):
            with ledger.phase(Phase.DIAGNOSTICS) as attempt.forward:
                loss = experiment.loss(batch).total
            attempt.loss = float(loss.detach())
            check_finite(attempt.loss, "loss", crash_dump.where)
            if crash_dump.learning:
                with ledger.phase(Phase.DIAGNOSTICS) as attempt.backward:
                    parts = torch.autograd.grad(
                        loss, experiment.parameters(), allow_unused=True, materialize_grads=True
                    )
                check_finite(float(torch.nn.utils.get_total_norm(parts)), "gradient", crash_dump.where)
    except NumericalFailure as failure:
        attempt.failure = failure
    return attempt


def _outcome(attempt: Attempt, crash_dump: CrashDump, changed: list[str]) -> str:
    how = f"with {' '.join(changed)}" if changed else "with nothing changed"
    there, back = attempt.forward, attempt.backward
    evaluations = f"{there.evaluations:,} + {back.evaluations:,} evaluations"
    if attempt.failure is None:
        return (
            f"{how} it gets through: loss {attempt.loss:.4g}, {evaluations}, "
            f"{there.accepted:,} accepted and {there.rejected:,} rejected steps."
        )
    if str(attempt.failure) == crash_dump.message:
        return f"{how} it fails in the same way, after {evaluations}."
    return f"{how} it fails after {evaluations}: {attempt.failure}"
