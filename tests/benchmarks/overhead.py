"""What `Trainer.fit` costs beyond forward, loss, backward and optimizer."""

import io
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.experiment.signals import StopRequest
from ode_runner.loggers.tensorboard import TensorBoardLogger
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricsFile
from ode_runner.training.session import Session
from ode_runner.training.trainer import Trainer
from tests.benchmarks.measure import Spread, now
from tests.benchmarks.ours import endless, freeze_ours, make_trainer


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One step of `fit`, from one progress report to the next, and a bare step on the same batch right after it."""

    fit_seconds: float
    train_step_seconds: float  # the part of it inside Trainer.train_step
    bare_seconds: float


@dataclass(frozen=True)
class Overhead:
    """Steps of `fit`, the first left out; each block of `log_every` has one step that is logged."""

    turns: list[Turn]
    log_every: int

    @property
    def total(self) -> float:
        """Part of the time of all steps that the bare steps did not need; differences of noisy numbers."""
        return _beyond(self.turns)

    @property
    def per_block(self) -> Spread:
        starts = range(0, len(self.turns), self.log_every)
        return Spread.of([_beyond(self.turns[start : start + self.log_every]) for start in starts])

    @property
    def inside_train_step(self) -> float:
        """Loss and gradient checked, gradient norm, metrics: the median step, so without what only some steps do."""
        shares = [(turn.train_step_seconds - turn.bare_seconds) / turn.fit_seconds for turn in self.turns]
        return statistics.median(shares)

    @property
    def outside_train_step(self) -> float:
        """Data, metrics file, TensorBoard, progress bar and checkpoints: measured directly, hardly noisy."""
        return 1 - sum(turn.train_step_seconds for turn in self.turns) / sum(turn.fit_seconds for turn in self.turns)


def measure_overhead(
    data_dir: Path, device: torch.device, weights: dict[str, Tensor], *, blocks: int, scratch: Path
) -> Overhead:
    """`fit` with everything a run on a terminal has switched on; weights do not change.

    The validation split is small: the epoch's end is not what is measured.
    """
    log_every = 10
    limits = [f"trainer.log_every={log_every}", f"trainer.max_steps={blocks * log_every + 1}", "task.validation=200"]
    trainer = make_trainer(data_dir, device, "model=odenet", *limits)
    trainer.model.load_state_dict(weights)
    freeze_ours(trainer)
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as name:  # on the disk that runs are written to
        probe = _Probe(trainer, Path(name))
        probe.run()
    return Overhead(probe.turns, log_every)


class _Probe:
    """Stands behind the progress report and takes a bare step after each step of `fit`."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer, self.batches = trainer, endless(trainer)
        self.turns: list[Turn] = []
        self.begun: float | None = None
        self.inside = 0.0
        self.session = Session(
            metrics=MetricsFile(folder),
            logger=TensorBoardLogger(folder, first_step=0),
            checkpoints=Checkpoints(folder / "checkpoints", fingerprint="bench", seed=0),
            display=_ReportingDisplay(self.after_step),
            stop=StopRequest(),
            save_every_seconds=trainer.options.save_every_seconds,
        )
        self._train_step = trainer.train_step
        trainer.train_step = self.train_step  # type: ignore[method-assign]

    def run(self) -> None:
        self.session.display.start(self.trainer.total_steps, 0)
        self.trainer.fit(self.session)
        self.session.display.stop()
        self.session.metrics.close()
        self.session.logger.close()

    def train_step(self, batch: Batch, **options: Any) -> dict[str, float]:
        begun = now(self.trainer.device)
        scalars = self._train_step(batch, **options)
        self.inside = now(self.trainer.device) - begun
        return scalars

    def after_step(self) -> None:
        ended = now(self.trainer.device)
        bare = self.bare_step(next(self.batches))
        if self.begun is not None:
            fit = ended - self.begun
            self.turns.append(Turn(fit_seconds=fit, train_step_seconds=self.inside, bare_seconds=bare))
        self.begun = now(self.trainer.device)
        self.session.saved_at += self.begun - ended  # as many checkpoints per step as in an undisturbed run

    def bare_step(self, batch: Batch) -> float:
        trainer = self.trainer
        begun = now(trainer.device)
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.experiment.loss(batch).total.backward()
        trainer.optimizer.step()
        return now(trainer.device) - begun


class _ReportingDisplay(Display):
    """The progress bar of a terminal, drawn into memory, that says when a step is over."""

    def __init__(self, after_step: Callable[[], None]) -> None:
        super().__init__()
        self.console = Console(file=io.StringIO(), force_terminal=True, highlight=False)
        self.after_step = after_step

    def advance(self, *, step: int, total_steps: int, progress: Callable[[], Mapping[str, str]]) -> None:
        super().advance(step=step, total_steps=total_steps, progress=progress)
        self.after_step()


def _beyond(turns: list[Turn]) -> float:
    return 1 - sum(turn.bare_seconds for turn in turns) / sum(turn.fit_seconds for turn in turns)
