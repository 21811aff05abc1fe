"""The training loop."""

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ode_runner.analysis.diagnostics import Diagnostics
from ode_runner.analysis.gradient_monitor import GradientMonitor
from ode_runner.batch import Batch, Split
from ode_runner.devices.random_state import RandomState
from ode_runner.distributed.process_group import ProcessGroup
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.crash_dump import check_finite, dump_on_failure
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.experiment.loss_scaling import LossScaling
from ode_runner.experiment.per_sample_cost import batch_scalars
from ode_runner.experiment.task_contract import batches_of_epoch
from ode_runner.fields.ledger import Phase
from ode_runner.objectives.base import floor_text
from ode_runner.recording.clock import clock
from ode_runner.recording.display import shown
from ode_runner.training.accumulation import check_even, check_parts
from ode_runner.training.averaging import WeightAverage
from ode_runner.training.batch_pass import BatchPass
from ode_runner.training.best_weights import NONE, best_of_checkpoint, better
from ode_runner.training.gauss_newton import evaluated
from ode_runner.training.patience import check_patience, out_of_patience
from ode_runner.training.pictures import draw_if_due
from ode_runner.training.planned_pass import AttemptHistory
from ode_runner.training.prepare_compiled import Compiled, compile_training
from ode_runner.training.prepare_evaluations import compile_validation
from ode_runner.training.schedules import Schedule
from ode_runner.training.session import Session
from ode_runner.training.stages import Stages
from ode_runner.training.training_meters import TrainingMeters
from ode_runner.training.training_pass import clip_gradients, mean_scalars, progress_text, solve_scalars


class Trainer:
    """The training of one run: its objects, its position and its cost so far."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        optimizer: Optimizer,
        schedule: Schedule,
        diagnostics: Diagnostics,
        group: ProcessGroup,
    ) -> None:
        self.experiment, self.optimizer, self.diagnostics, self.group = experiment, optimizer, diagnostics, group
        self.options, self.task, self.model = experiment.options, experiment.task, experiment.model
        self.integrator, self.device = experiment.integrator, experiment.device
        self.parameters = experiment.parameters()
        self.average = None if self.options.ema is None else WeightAverage(self.model, decay=self.options.ema)
        judged = self.model if self.average is None else self.average.model
        self.evaluated_experiment = replace(experiment, model=judged)
        self.scaling = LossScaling(self.device) if self.options.precision == "fp16" else None
        self.forward = ForwardPass(experiment, phase=Phase.FORWARD, scaling=self.scaling)
        self.gradient_monitor = GradientMonitor(experiment, every=experiment.options.audit_every)
        self.step = self.epoch = self.batch = 0  # `batch` counts within the epoch
        self.best: dict[str, float] = dict(NONE)
        self.last_validation = ""  # the objective of the last epoch on validation, as printed
        self.diagnosed: dict[str, float] = {}  # results of the diagnostics at the last evaluation that had some
        self.waits = self.device.type != "cuda" or group.size > 1  # whether each step waits for its own scalars
        self.make_pass = BatchPass(self.forward, optimizer, self.parameters, waits=self.waits)
        self.meters = TrainingMeters(experiment, at_once=self.waits)
        self.compiled = Compiled()  # in this session
        self.attempts = AttemptHistory()  # of captured solves
        self.steps_per_epoch = per_epoch = -(-self.task.size(Split.TRAIN) // self.options.batch_size)
        self.stages = Stages(experiment, optimizer, schedule, processes=group.size)
        check_patience(experiment, stages=self.stages.count)
        check_parts(experiment, processes=group.size)
        self.schedule = self.stages.scheduler(steps_per_epoch=per_epoch)
        self.total_steps = min(self.stages.epochs * per_epoch, self.options.max_steps or sys.maxsize)

    def fit(self, session: Session) -> str:
        """Train from the present position to the last epoch; returns a clause if a budget ended training, or ""."""
        self.meters.clock.start()
        self.integrator.record_at_once()
        spent, warm = self._spent_budget() if self.step else "", False  # one step is made whatever the budget
        if self.epoch < self.stages.epochs and not spent:
            self.stages.resume(self.average, session.checkpoints)
            self.compiled = self._compiled(session)
        while self.epoch < self.stages.epochs and not spent:
            if self.stages.due(self.epoch):
                self._begin_stage(session)
            size = self.options.batch_size
            batches = batches_of_epoch(self.task, batch_size=size, epoch=self.epoch, say=session.display.say)
            for batch in itertools.islice(batches, self.batch, None):
                self._train_batch(batch, session, warm=warm)
                warm = True
                if self._spent_budget():
                    break
            spent = self._finish_epoch(session)
            if session.trial is not None and not spent and self.epoch < self.stages.epochs:
                with session.saved_if_ended(self):  # as pruned
                    session.trial.judge(self.experiment.criterion[0], self.best["objective"], epoch=self.epoch)
        if self.batch:  # stopped between the end of its budget and the evaluation of its last epoch
            if self.device.type == "cpu":  # on which the solves of validation are compiled
                self.compiled = self._compiled(session)
            self._finish_epoch(session)
        return spent

    def _train_batch(self, batch: Batch, session: Session, *, warm: bool) -> None:
        """Make a step, then log, show and save what is due. `warm`: the step is not the first of the session."""
        logged = (self.step + 1) % self.options.log_every == 0 or self.step == 0
        self.meters.unread.keep()
        with self._crash_dump_on_failure(batch), self.meters.stopwatch.lap():
            scalars = self.train_step(batch, measure_memory=logged)
        self.meters.unread.add(scalars, batch, where=self._where(), warm=warm)
        self.step, self.batch = self.step + 1, self.batch + 1
        if logged or self.meters.unread.full:
            self.meters.read()
        if remark := self.forward.remark():
            session.display.say(remark)
        if warning := self.gradient_monitor.warning():
            session.display.say(warning, style="yellow")
        if logged:
            self._write(session, self.meters.take())
        session.display.advance(step=self.step, total_steps=self.total_steps, progress=self._progress)
        session.save_if_due(self)

    def _begin_stage(self, session: Session) -> None:
        """Begin a stage as a run begins, without best weights: the stage before had another objective."""
        self.compiled = Compiled()  # frees the recordings of the stage before, before new ones are made
        self.stages.begin(self.average, session)
        self.best = dict(NONE)
        self.schedule = self.stages.scheduler(steps_per_epoch=self.steps_per_epoch)
        self.compiled = self._compiled(session)
        session.save(self)

    def _compiled(self, session: Session) -> Compiled:
        steps, say, processes = self.total_steps, session.display.say, self.group.size
        compiled = compile_training(self.forward, steps=steps, processes=processes, say=say, history=self.attempts)
        if compiled.seconds is None or self.device.type != "cpu":
            return compiled
        validations = -(-steps // self.steps_per_epoch)
        seconds = compile_validation(self.evaluated_experiment, validations=validations, steps=steps, say=say)
        return compiled._replace(seconds=compiled.seconds + seconds)

    def initialise(self) -> None:
        """Let the model initialise weights from the first batch (whole, in every process), before the first step."""
        if self.step == 0 and self.model.initialised_by_data:
            batches = self.task.batches(Split.TRAIN, batch_size=self.options.batch_size, epoch=0)
            self.model.eval()
            self.model.initialise(next(batches).to(self.experiment.dtype).inputs)

    def train_step(self, batch: Batch, *, measure_memory: bool) -> dict[str, Tensor | float]:
        """Update the weights once; returns the scalars of the step: loss, metrics as measured, evaluations.

        On a GPU, loss, metrics and gradient norm are returned as tensors on the device, not yet checked to be finite.

        Raises:
            NumericalFailure: a solve failed or, if the scalars are read, loss or gradient is not finite.
        """
        if not self.model.training:  # after an evaluation
            self.model.train()
        self.model.begin_step(self.step / self.total_steps)
        if self.group.size > 1:
            check_even(batch, self.task, f"processes={self.group.size}")
        batch = self.group.share(batch, epoch=self.epoch, place=self.batch).to(self.experiment.dtype)
        random = RandomState.now(self.device) if self.gradient_monitor.due(self.step + 1) else None
        for parameter in self.parameters:
            parameter.grad = None  # optimizer.zero_grad() takes 20 times as long
        passed = self.make_pass(batch, self.compiled, measure_memory=measure_memory, where=self._where())
        if self.scaling is not None:
            self.scaling.unscale(self.optimizer)
        scalars = {} if passed.saved_bytes is None else {"memory/saved_bytes": float(passed.saved_bytes)}
        audited = self._audited(batch, random) if random else {}
        self.group.average_gradients(self.model.parameters())
        grad_norm = clip_gradients(self.parameters, self.options.max_grad_norm, waits=self.waits)
        if self.waits:
            check_finite(float(grad_norm), "gradient", self._where())
        lr = self.optimizer.param_groups[0]["lr"]
        stepped = self._update_weights(grad_norm)
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.model)
        of_batch = mean_scalars(passed, self.group, waits=self.waits) | batch_scalars(passed.each, len(batch.inputs))
        return scalars | of_batch | audited | stepped | {"optim/lr": lr} | solve_scalars(passed)

    def _audited(self, batch: Batch, random: RandomState) -> dict[str, float]:
        """The comparison of the gradient with another one; its time does not count as training."""
        with self.meters.stopwatch.paused():
            return self.gradient_monitor.compare(batch, random, step=self.step + 1)

    def _update_weights(self, grad_norm: Tensor | float) -> dict[str, Tensor | float]:
        """Make a step of the optimizer; returns its scalars, such as the gradient norm."""
        if self.scaling is not None:
            return self.scaling.step(self.optimizer, torch.as_tensor(grad_norm))
        self.optimizer.step()
        return {"optim/grad_norm": grad_norm}

    def state_dict(self, metrics_position: int) -> dict[str, Any]:
        """All that the next step and the record depend on; `metrics_position` is metrics.jsonl's length in bytes."""
        self.meters.read()  # so that a state with a failed step is never saved
        random = RandomState.now(self.device)
        return {
            "position": [self.step, self.epoch, self.batch],
            "best": dict(self.best),
            **{name: part.state_dict() for name, part in self._parts().items()},
            **self.meters.state_dict(),
            "diagnosed": dict(self.diagnosed),
            "ledger": self.integrator.ledger.state_dict(),
            "attempts": self.attempts.state_dict(),
            "random": random.cpu,
            "random_cuda": random.cuda,
            "metrics_position": metrics_position,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step, self.epoch, self.batch = state["position"]
        self.best = best_of_checkpoint(state["best"])
        self.diagnosed = state.get("diagnosed", {})
        self.stages.load_state_dict(state["stages"])
        self.schedule = self.stages.scheduler(steps_per_epoch=self.steps_per_epoch)  # for that stage
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.meters.load_state_dict(state)
        self.integrator.ledger.load_state_dict(state["ledger"])
        if "attempts" in state:  # runs of before 2026-11-27 have none
            self.attempts.load_state_dict(state["attempts"])
        RandomState(cpu=state["random"], cuda=state["random_cuda"]).restore()

    def _parts(self) -> dict[str, Any]:
        """The objects with a state of their own, by the name under which it is saved."""
        names = ("stages", "model", "optimizer", "schedule", "average", "scaling")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    @contextmanager
    def _crash_dump_on_failure(self, batch: Batch) -> Iterator[None]:
        """A step that fails leaves a crash dump, unless an earlier step, whose scalars were not read yet, failed."""
        with dump_on_failure(self.model, batch, self.device, learning=True, where=self._where()):
            try:
                yield
            except NumericalFailure:
                self.meters.read()
                raise

    def _write(self, session: Session, scalars: dict[str, float]) -> None:
        epoch = self.step / self.steps_per_epoch
        place = {"step": self.step, "epoch": epoch, "wall_seconds": self.meters.clock.seconds}
        session.metrics.write(place | scalars)
        session.logger.log(scalars, step=self.step)

    def _finish_epoch(self, session: Session) -> str:
        """Evaluate, log, show, save and draw what is due; returns which budget is used up, if one is."""
        with session.saved_if_ended(self):  # a signal during the evaluation must not cost the steps before it
            scalars, standing = self._evaluate(session), self._progress()
            self.epoch, self.batch = self.epoch + 1, 0
            spent = self._spent_budget()
            last = bool(spent) or self.epoch == self.stages.epochs
            diagnosed = self.diagnostics.measure_if_due(self.evaluated_experiment, epoch=self.epoch, last=last)
            self.diagnosed = diagnosed or self.diagnosed
        if not self.meters.window.empty():
            self._write(session, self.meters.take())
        self._write(session, scalars | diagnosed)
        session.display.epoch("  ".join([*standing.values(), clock(self.meters.clock.seconds)]))
        if last or self.best["epoch"] == self.epoch or session.due:  # best.pt is of no epoch still to come
            session.save(self)
        draw_if_due(self.evaluated_experiment, session, done=(self.epoch, self.stages.epochs), step=self.step)
        return spent

    def _evaluate(self, session: Session) -> dict[str, float]:
        """Evaluate on validation and save the weights if they are the best; returns the scalars of the evaluation."""
        judged, optimizer, stop = self.evaluated_experiment, self.optimizer, session.stop
        results = evaluated(judged, optimizer, stop, Split.VALIDATION)
        nfe = results.pop("nfe")
        if remark := self.integrator.remark():
            session.display.say(remark)
        if best := better(self.best, results, judged, optimizer, stop, epoch=self.epoch + 1):
            self.best, place = best, {"step": self.step, "epoch": self.epoch + 1}
            session.checkpoints.save_best({"model": judged.model.state_dict(), "task": self.task.statistics(), **place})
        self.last_validation = shown(name := self.experiment.criterion[0], results[name]) + floor_text(results)
        return {f"eval/{name}": value for name, value in results.items()} | {"nfe/eval": nfe}

    def _progress(self) -> dict[str, str]:
        """The epoch and the running means as text, for the progress line."""
        numbers = progress_text(self.meters.means(), validation=self.last_validation, samples=self.meters.samples)
        return {"epoch": f"{self.epoch + 1}/{self.stages.epochs}", "numbers": numbers}

    def _spent_budget(self) -> str:
        """A sentence if a budget or trainer.patience is used up; otherwise ""."""
        nfe = sum(self.integrator.ledger.totals[phase].evaluations for phase in (Phase.FORWARD, Phase.BACKWARD))
        name, best = self.experiment.criterion[0], int(self.best["improved"])
        ended = out_of_patience(self.options.patience, name, best, epoch=self.epoch, step=self.step)
        return self.options.spent(step=self.step, seconds=self.meters.clock.seconds, nfe=nfe) or ended

    def _where(self) -> str:
        return f"at step {self.step + 1} (epoch {self.epoch + 1})"
