"""A trained run as an object: its outputs, samples, densities, equations, pictures and tables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ode_runner.api.answers import (
    answers_of,
    check_answers,
    check_states,
    checked_inputs,
    increasing,
    mean_of_draws,
    one_of_test,
    path_of,
    tensor_of,
)
from ode_runner.api.sampling import conditions, draw
from ode_runner.api.solve_warnings import SolveWarnings
from ode_runner.api.solved_problems import arguments_like, arguments_of, encoding_of_test, problem_at, solved_problems
from ode_runner.batch import Answer, Batch, Drawn
from ode_runner.commands.forecast import forecast_of_seeds, other_seeds
from ode_runner.commands.original_command import NOT_KEPT
from ode_runner.commands.predict import states_at
from ode_runner.commands.typed_numbers import typed_dates, typed_times
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.signals import StopRequest
from ode_runner.exporting.writing import write_export
from ode_runner.fields.structured_field import kind_of
from ode_runner.models.base import Model
from ode_runner.plots.animation import Picture
from ode_runner.problem import Problem
from ode_runner.recording.record import NONE, UNUSED, RunRecord, RunStatus
from ode_runner.recording.unfinished import check_completed
from ode_runner.report import runs as reported
from ode_runner.tasks.density import DensityTask
from ode_runner.tasks.forecasting import ForecastingTask
from ode_runner.tasks.own_data import OwnDataTask
from ode_runner.types import State, Time, Trajectory


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained run. Inputs may be lists, arrays or tensors; outputs are tensors on the CPU.

    `predict`, `states` and `field` of task=series have scaled values and times; `forecast` has those of the file.
    """

    folder: Path
    record: RunRecord
    experiment: Experiment
    loaded_as: RunRecord  # the choices and the configuration of `experiment`, whose solver may not be that of training

    def __repr__(self) -> str:
        """Choices and folder only: the objects would fill pages of a notebook."""
        chosen = [f"{axis}={choice}" for axis, choice in self.loaded_as.choices.items() if choice not in (UNUSED, NONE)]
        so_far = "" if self.record.status is RunStatus.COMPLETED else " (not completed)"
        return f"<Run {' '.join(chosen)} seed={self.record.seed}, {self.folder}{so_far}>"

    @property
    def model(self) -> Model:
        """The trained model, a torch module in evaluation mode."""
        return self.experiment.model

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole configuration of this object; that of training is `record.config`."""
        return self.loaded_as.config | {key: own for key, own in self.record.config.items() if key in NOT_KEPT}

    @property
    def results(self) -> Mapping[str, float]:
        """The final metrics, such as `test/accuracy`; empty for a run that is not completed."""
        return self.record.metrics

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The metrics logged during training, one row per record; the index is the step."""
        table = pd.DataFrame(self._rows())
        return table.set_index("step") if "step" in table else table

    def predict(self, inputs: Any, times: Any = None) -> Tensor:
        """The model's outputs for inputs, without a graph: class scores, the task's values, or the state at each time.

        Args:
            inputs: (batch, *input shape of the task).
            times: increasing; default: the task's own. The solve begins at the task's first time in any case.

        Returns:
            (batch, ...) at the last time, or (time, batch, ...) if the task asks for every time. If several initial
                states are drawn for an input, as by network=recurrent_vae, their mean.

        Raises:
            IncompatibleChoice: the model only draws samples; or times are given, and it has none between its blocks.
            RefusedInput: inputs have another shape, times do not increase, or the first is before the task's first.
        """
        with torch.no_grad():
            return self._outputs(inputs, times)

    def forecast(
        self, times: Any = None, *, data: str | os.PathLike[str] | None = None, bands: bool = False
    ) -> pd.DataFrame:
        """Forecasts of series in the columns and units of their file, one row for each time.

        Args:
            times: increasing, in the file's unit, or dates; default: times beyond the end of each series.
            data: a file of other series with the same columns; default: those of the run.
            bands: as in `predict=`, the mean over this run and runs of other seeds beside it, with bands of two
                standard deviations; default: this run alone, whose forecast may have a band of its own.

        Raises:
            IncompatibleChoice: the run's task has no series from a file.
            RefusedInput: times or data do not suit the run, or no run of another seed is beside this one.
        """
        task = self.experiment.task
        if data is not None and isinstance(task, OwnDataTask):
            self.model.check_new_series()
            task = task.with_data(path_of(data))
        if not isinstance(task, ForecastingTask):
            raise IncompatibleChoice(f"task={self.record.choices['task']} forecasts nothing: that is task=series.")
        typed = typed_dates if task.dated else typed_times
        asked = None if times is None else typed([str(one) if task.dated else one for one in times]).tolist()
        others = other_seeds(self.record, self.folder) if bands else {}
        if bands and not others:
            raise RefusedInput(f"bands=True: no run of another seed lies beside {self.folder}. Leave bands out.")
        header, rows = task.forecast_table(forecast_of_seeds(self.experiment, others, task, asked, StopRequest()))
        return pd.DataFrame(rows, columns=list(header))

    def states(self, inputs: Any, times: Any = None) -> Trajectory:
        """The states (time, batch, *state) at increasing times, without a graph; default: the task's own times.

        If several initial states are drawn for an input, (time, draws * batch, *state), one draw after another.

        Raises:
            IncompatibleChoice: the model has no time between its blocks.
        """
        check_states(self.experiment, self.record.choices["model"])
        with torch.no_grad():
            encoding, begin = self.model.encode(self._inputs(inputs)), self._times(None)[:1]
            return states_at(self.experiment, encoding, self._times(times), begin=begin).cpu()

    def field(self, t: float | Time, y: Any, *given: Tensor) -> State:
        """The learned derivative f(t, y), in the shape of `y` (batch, *state); differentiable with respect to `y`.

        The result is on the device of `y`, even if the run is on a GPU.

        Raises:
            IncompatibleChoice: the model solves nothing, or an equation without a derivative.
            RefusedInput: `t` is several times, and the model solves several fields in turn; or shapes do not fit.
        """
        model, sent = self.record.choices["model"], [z.to(self.experiment.device) for z in given]
        field, known = self._field(t)
        if "forward" not in (calls := kind_of(field).call_weights):
            raise IncompatibleChoice(f"the field of model={model} has no derivative, but {' and '.join(calls)}.")
        state = self._as_tensor(y)
        with arguments_like(known, state, sent, model):
            found = self.experiment.integrator.evaluate(field, self._as_tensor(t), state, given=sent)
        return found.to(y.device if isinstance(y, Tensor) else "cpu")

    def sample(self, count: int, *, times: int = 2, given: Any = None, seed: int | None = None) -> Drawn:
        """Samples of the learned distribution: `path` (times, count, *shape) from noise to data, and `log_density`.

        For density tasks, both refer to the units of the data. Every call gives the same samples; on a CPU, fewer of
        them are the first of more, up to the tolerance of the solve.

        Args:
            count: the number of samples.
            times: the number of times of the path; 2: noise and sample only.
            given: conditions (count, condition), such as classes one-hot; default: as in `predict=RUN samples=`.
            seed: of their noise, for other samples; default: as in `predict=RUN samples=`, whatever torch's own seed.

        Raises:
            IncompatibleChoice: the model gives no samples.
            RefusedInput: `given` does not suit the task; or a number is none of samples, of times, or a seed.
        """
        task, choices = self.experiment.task, self.record.choices
        of_samples = conditions(self.experiment, count, given, task=choices["task"])
        drawn = draw(self.experiment, count, times=times, given=of_samples, seed=seed, model=choices["model"])
        if isinstance(task, DensityTask):
            self._warnings.issue(partial(task.sample_remarks, drawn=drawn, given=of_samples))
            drawn = task.drawn_in_own_units(drawn)
        log_density = None if drawn.log_density is None else drawn.log_density.cpu()
        return drawn._replace(path=drawn.path.cpu(), log_density=log_density)

    def log_prob(self, inputs: Any) -> Tensor:
        """The log density of inputs, (batch,), in nats; for density tasks, both are in the units of the data.

        For density tasks it is differentiable with respect to inputs that require a gradient, unless the solver is not,
        as SciPy's. The first ones, of this or of `sample`, are compared with a fine solve, with a warning if far off.

        Raises:
            IncompatibleChoice: the model gives no density.
        """
        if Answer.LOG_DENSITY not in answers_of(self.experiment):
            raise IncompatibleChoice(f"model={self.record.choices['model']} gives no log density.")
        if not isinstance(task := self.experiment.task, DensityTask):
            return self.predict(inputs)
        data = self._as_tensor(inputs, dtype=torch.float64)
        with torch.set_grad_enabled(torch.is_grad_enabled() and data.requires_grad):
            given = task.as_inputs(data)
            found = self._outputs(given)
            whole = found + task.log_determinant(given).to(found)
        self._warnings.issue(partial(task.solve_remarks, inputs=given.detach(), log_density=found.detach()))
        return whole if found.requires_grad else whole.detach()

    def export(self, folder: str | os.PathLike[str], *, format: str = "torch_export", part: str = "field") -> Path:
        """Writes the trained model or its field to a file for other programs, like `export=`.

        Args:
            folder: where to write; created if needed. An example and a description are written beside the file.
            format: torch_export or onnx; or safetensors, the weights alone.
            part: `field`, f(t, y), or `solve`, from inputs to outputs by the run's fixed-step solver.

        Returns:
            The file.

        Raises:
            IncompatibleChoice: the model has no field, its solver's steps are not fixed, or it cannot be traced.
            RefusedInput: there is no such format or part, a package is missing, or the run is not completed.
        """
        check_completed(self.record, self.folder)
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        return write_export(self.experiment, self.record, file_format=format, part=part, folder=path).path

    def figures(self) -> dict[str, Picture]:
        """The pictures of the run by name, newly drawn; animations are Animations, with a `figure` and `gif()`."""
        with torch.no_grad():
            return dict(self.experiment.figures(model_view(self.experiment, self._rows(), StopRequest())))

    def _outputs(self, inputs: Any, times: Any = None) -> Tensor:
        """The result of `predict`, with a graph if gradients are enabled."""
        check_answers(self.experiment, self.record.choices["model"])
        given, ts, always = self._inputs(inputs), self._times(times), self.experiment.task.spec.every_time
        begin = ts[:1] if times is None else self._begin(ts)
        before = begin[begin < ts[0]]
        values = self.experiment.outputs(Batch(given, torch.cat([before, ts]), given)).values.cpu()
        return mean_of_draws(values, len(given), every_time=always)[len(before) if always else 0 :]

    def _rows(self) -> list[dict[str, float]]:
        return list(reported.Run(folder=self.folder, record=self.record).rows())

    def _field(self, t: float | Time) -> tuple[Any, Encoding]:
        """The field that the model solves at time t, with an example of the state and tensors that it takes."""
        if (learned := self.model.learned_field()) is not None:  # also if a sampler solves no problem
            return learned, self._encoding
        problem = problem_at(self._problems, t, self.record.choices["model"])
        return problem.field.field, arguments_of(problem)

    @cached_property
    def _warnings(self) -> SolveWarnings:
        return SolveWarnings(experiment=self.experiment)

    @cached_property
    def _encoding(self) -> Encoding:
        return encoding_of_test(self.experiment)

    @cached_property
    def _problems(self) -> list[list[Problem]]:
        return solved_problems(self.experiment, self.record.choices["model"])

    def _inputs(self, inputs: Any) -> Tensor:
        return checked_inputs(self._as_tensor(inputs), self.experiment)

    def _times(self, times: Any) -> Tensor:
        return increasing(self._as_tensor(one_of_test(self.experiment).ts if times is None else times))

    def _begin(self, ts: Tensor) -> Tensor:
        """The task's first time, (1,), at which a solve begins for outputs at `ts`."""
        if Answer.STATES not in self.model.answers():
            name = self.record.choices["model"]
            raise IncompatibleChoice(f"model={name} {self.model.untimed}. Leave times out.")
        if bool(ts[0] < (begin := self._times(None)[:1])):
            raise RefusedInput(f"times begin at {float(ts[0]):g}, before the task does at {float(begin):g}.")
        return begin

    def _as_tensor(self, values: Any, dtype: torch.dtype | None = None) -> Tensor:
        return tensor_of(values, dtype or self.experiment.dtype, self.experiment.device)
