"""The experiment: task, model, solver and gradient mode as objects that fit together."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ode_runner.batch import Answer, Batch, Learner, Outputs, Split
from ode_runner.devices.transfer import read_scalars
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.crash_dump import dump_on_failure
from ode_runner.experiment.criterion import criterion
from ode_runner.experiment.meters import Means
from ode_runner.experiment.noise_driven import with_noise
from ode_runner.experiment.options import TrainerOptions
from ode_runner.experiment.per_sample_cost import PerSampleCounts
from ode_runner.experiment.signals import StopRequest
from ode_runner.experiment.stability import stability_figures
from ode_runner.experiment.task_contract import (
    check_loss,
    check_measured,
    checked_batch,
    checked_figures,
    checked_metrics,
    reported,
)
from ode_runner.fields.ledger import Phase
from ode_runner.fields.structured_field import MatrixField
from ode_runner.integrator import Integrator
from ode_runner.models.base import Model
from ode_runner.models.copies import convert, copied
from ode_runner.models.density_generator import DensityGenerator
from ode_runner.models.generator import Generator, sample_noise
from ode_runner.noise.brownian_path import Noise
from ode_runner.objectives.base import TASK, Loss, Objective
from ode_runner.paths.denoising_field import ConsistencyField
from ode_runner.plots.animation import Picture
from ode_runner.problem import Integrate
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.sampled import asks_for_answers
from ode_runner.tasks.set_metrics import SetMeasuringTask, set_scalars
from ode_runner.types import Scalar, Trajectory


def numbered(batch: Batch, *, from_: int) -> Batch:
    """The batch with a number for each sample: its index in the split, unless the task numbers samples itself."""
    if batch.numbers is not None:
        return batch
    return batch._replace(numbers=torch.arange(from_, from_ + len(batch.inputs), device=batch.inputs.device))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The objects of a run: its task, its model and the numerics between them."""

    options: TrainerOptions
    task: Task
    model: Model
    objective: Objective[Any]  # the model's own, with the terms that regularisers add
    integrator: Integrator
    fine_integrator: Callable[[], Integrator]  # makes an accurate one, as a reference for results of `integrator`
    device: torch.device
    seed: int  # of the samples that a model generates
    output_dir: Path  # the folder of all outputs

    @property
    def dtype(self) -> torch.dtype:
        """The type of inputs, states and times."""
        return torch.float64 if self.options.precision == "fp64" else torch.float32

    def parameters(self) -> list[Tensor]:
        """The parameters to train; empty if the model has none."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def loss(self, batch: Batch) -> Loss:
        """The loss of a batch of this experiment's dtype, for training, evaluation, replay and audits alike."""
        with self.options.autocast(self.device):
            loss = self.objective.loss(self.model, self.task, batch, self.integrate(len(batch.inputs), batch.numbers))
        check_loss(self.task, loss)
        return loss

    def integrate(self, count: int, numbers: Tensor | None = None) -> Integrate:
        """The integrate function for the model; if the task has noise, driven by that of the samples `numbers`."""
        return with_noise(self.integrator, self.task.spec.path, count, numbers, device=self.device)

    def metrics(self, loss: Loss, batch: Batch) -> dict[str, Scalar]:
        """The task's metrics of a batch, without a graph; empty if the loss does not have the model's outputs."""
        if loss.outputs is None:
            return {}
        with torch.no_grad():
            found = dict(checked_metrics(self.task, self.task.metrics(loss.outputs, batch)))
        if both := found.keys() & loss.penalties.keys():
            raise RefusedInput(f"a metric of the task has the name of a regulariser: {', '.join(both)}. Rename one.")
        return found

    def _counts(self, loss: Loss, batch: Batch) -> Mapping[str, int]:
        """The counts that the loss and metrics of a batch are means over, by name, if these are not its samples."""
        if loss.outputs is None:
            return {}
        found = self.task.counts(loss.outputs, batch)
        return found | {f"loss/{TASK}": found["loss"]} if "loss" in found else found

    def outputs(self, batch: Batch) -> Outputs:
        """The model's outputs for a batch of this experiment's dtype."""
        with self.options.autocast(self.device):
            outputs = self.model(batch.inputs, batch.ts, self.integrate(len(batch.inputs), batch.numbers))
        return outputs._replace(values=outputs.values.to(self.dtype))

    @property
    def criterion(self) -> tuple[str, bool]:
        """The validation metric by which the best weights are chosen, and whether higher is better."""
        return criterion(type(self.task), type(self.model))

    @property
    def answers(self) -> bool:
        """Whether the model can answer with the run's own solver: a sampler gives samples but not their density."""
        return self.tells and (not self.model.takes_integrals or self.integrator.solver.of_ordinary_equations)

    @property
    def follows(self) -> bool:
        """Whether the model can solve from an input: a solver that draws its own noise can only generate samples."""
        drawn = "solver" not in self.model.unused_axes() and self.integrator.solver.draws
        return not drawn or self.task.spec.path is not None

    def check_follows(self) -> None:
        """Raises IncompatibleChoice if the model cannot solve from an input; see `follows`."""
        if not self.follows:
            raise IncompatibleChoice(
                f"{self.integrator.solver.shown_name} draws noise on its way, and follows no input. Ask for samples, "
                "or use a solver that draws none, such as solver=dopri5."
            )

    @property
    def tells(self) -> bool:
        """Whether the model gives what the task needs, with any solver."""
        return self.task.needs <= self.model.answers()

    @torch.no_grad()
    def evaluate(
        self, split: Split, stop: StopRequest, counts: PerSampleCounts | None = None, *, most: int | None = None
    ) -> dict[str, float]:
        """Mean loss, metrics and evaluations per batch (`nfe`, `nfe_<part>`) over a split, with the present weights.

        A model whose objective makes no solve is asked for outputs, and so for metrics, only on the test split.

        Args:
            split: the split, which is evaluated whole, unless `most` is given.
            stop: checked before each batch.
            counts: collects the counts of each sample, if the solver takes steps of each sample's own.
            most: evaluate no further batch after so many samples; no batch is larger.

        Raises:
            Interrupted: `stop` was set.
            NumericalFailure: a solve failed; it carries a crash dump.
        """
        self.model.eval()
        means, evaluations, answers, measured = Means(), Means(), list[tuple[Batch, Outputs]](), 0
        size = self.options.eval_batch_size if most is None else min(self.options.eval_batch_size, most)
        for stored in self.task.batches(split, batch_size=size, epoch=0):
            stop.check()
            batch = numbered(checked_batch(self.task, stored).to(self.dtype), from_=measured)
            measured += len(batch.inputs)
            ledger = self.integrator.ledger
            guarded = dump_on_failure(self.model, batch, self.device, learning=False, where=f"on the {split} split")
            with guarded, ledger.phase(Phase.EVALUATION) as tally, ledger.each_sample() as each:
                loss = self.loss(batch)
                if loss.outputs is None and split is Split.TEST and self.answers and asks_for_answers(type(self.task)):
                    loss = loss._replace(outputs=self.outputs(batch))
            if counts is not None:
                counts.add(batch, each)
            if isinstance(self.task, SetMeasuringTask) and loss.outputs is not None:
                answers.append((batch.cpu(), loss.outputs.cpu()))
            scalars = read_scalars(self.metrics(loss, batch) | loss.scalars())
            means.add(scalars, weight=len(batch.inputs), own=self._counts(loss, batch))
            evaluations.add(dict.fromkeys(("nfe", f"nfe_{batch.part}" if batch.part else "nfe"), tally.evaluations))
            if most is not None and measured >= most:
                break
        check_measured(self.task, split, measured)
        of_the_split = set_scalars(self.task, split, answers)
        return reported(self.task, means.read()) | of_the_split | evaluations.read()

    @torch.no_grad()
    def remarks(self, metrics: Mapping[str, float]) -> list[str]:
        """Warnings of the task about a run's metrics, and of the model about a batch of the test split."""
        self.model.eval()
        with self.options.autocast(self.device):
            of_task = self.task.remarks(metrics, learner=self._learner())
            return [*of_task, *self.model.remarks(self._test_inputs())]

    def _learner(self) -> Learner:
        model, generator = self.model, self.model.generator()
        return Learner(
            learns=bool(self.parameters()),
            by_solves=model.objective.solves,
            joins_tokens=model.joins_tokens,
            samples_by_steps=generator is None or not isinstance(generator.field, ConsistencyField),
            finer=self.integrator.solver.finer,
        )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        """The pictures of the task, then those of the model and the solver, by file name without extension."""
        yield from checked_figures(self.task, self.task.figures(view))
        with self.options.autocast(self.device):
            of_model = list(self.model.figures(self._test_inputs()))
        yield from of_model
        if isinstance(field := self.model.learned_field(), MatrixField):
            yield from stability_figures(self.integrator.solver, field, self._test_inputs())

    def _test_inputs(self) -> Tensor:
        """The inputs of the first batch of the test split."""
        batch = next(self.task.batches(Split.TEST, batch_size=self.options.eval_batch_size, epoch=0))
        return batch.to(self.dtype).inputs

    def fine(self) -> "Experiment":
        """The experiment with a float64 copy of the model and the fine integrator; on the CPU if the device is mps."""
        device = torch.device("cpu") if self.device.type == "mps" else self.device
        options = replace(self.options, precision="fp64")
        model = convert(copied(self.model), device=device, dtype=torch.float64)
        return replace(self, model=model, integrator=self.fine_integrator(), options=options, device=device)

    def generate(
        self,
        numbers: Tensor,
        *,
        times: int = 2,
        given: Sequence[Tensor] = (),
        by: Generator | None = None,
    ) -> Trajectory:
        """Samples of a generative model, as paths from noise to data: (time, sample, *shape).

        Args:
            numbers: (sample,), integers; a sample's noise depends on its number and the seed only.
            times: the number of times of the path; 2: noise and sample only.
            given: what the field receives after time and state; the first axis is the sample.
            by: a generator to use instead of the model's own, from the same noise.
        """
        generator = by or self.model.generator()
        assert generator is not None
        noise, given = self._noise_and_given(numbers, given)
        return generator.generate(noise, self.integrator, times=times, dtype=self.dtype, given=given)

    def generate_with_density(
        self, numbers: Tensor, *, times: int = 2, given: Sequence[Tensor] = ()
    ) -> tuple[Trajectory, Tensor | None]:
        """The result of `generate`, and the log density (sample,) of the last state or None.

        It is None if solver or model give none, or the task does not ask for one: a trace costs one product with the
        Jacobian for each dimension of a sample.
        """
        generator, asked = self.model.generator(), Answer.LOG_DENSITY in self.task.needs
        if not asked or not isinstance(generator, DensityGenerator) or not self.integrator.solver.of_ordinary_equations:
            return self.generate(numbers, times=times, given=given), None
        noise, given = self._noise_and_given(numbers, given)
        y0, ts = generator.initial(noise, times=times, dtype=self.dtype)
        return generator.path_with_density(y0, ts, noise, self.integrator, given)

    def _noise_and_given(self, numbers: Tensor, given: Sequence[Tensor]) -> tuple[Noise, list[Tensor]]:
        noise = sample_noise(self.seed, numbers.to(self.device))
        return noise, [z.to(self.device, self.dtype) for z in given]

    def check_times(self) -> None:
        """Raises RefusedInput if the times of training do not fit the model, or are too far apart for the solver."""
        for given in itertools.islice(self.task.batches(Split.TRAIN, batch_size=1, epoch=0), 1):
            batch = checked_batch(self.task, given)
            self.model.check_times(batch.ts)
            if "solver" not in self.model.unused_axes():
                self.integrator.solver.check_times(batch.ts)

    @torch.no_grad()
    def try_sampler(self) -> None:
        """Draw one sample of the untrained model, so that a sampler is refused before training and not after it.

        Raises:
            RefusedInput: the sampler cannot begin at these times, or has no grid between them.
        """
        inputs = next(self.task.batches(Split.VALIDATION, batch_size=1, epoch=0)).inputs[:1]
        self.generate(torch.arange(1), given=self.model.encode(inputs).given)
