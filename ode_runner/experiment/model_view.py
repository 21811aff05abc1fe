"""What a task may ask of a model for metrics and pictures: functions of an experiment with its present weights."""

from collections.abc import Mapping, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from ode_runner.batch import Answer, Batch, Drawn, Outputs, Split
from ode_runner.devices.random_state import RandomState
from ode_runner.encoding import Encoding
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Means
from ode_runner.experiment.sample_cache import Draw, cached_samples
from ode_runner.experiment.signals import StopRequest
from ode_runner.fields.ledger import Phase
from ode_runner.models.base import Numerics
from ode_runner.models.density import DensityModel
from ode_runner.models.generator import Generator
from ode_runner.models.generators.path_model import PathModel
from ode_runner.tasks.base import ModelView
from ode_runner.types import Times, Trajectory

NOISE = 0  # seed of the samples for evaluation, so that metrics, tables and pictures use the same ones


def model_view(
    experiment: Experiment, history: Sequence[Mapping[str, float]], stop: StopRequest, *, noise: int = NOISE
) -> ModelView:
    """The view of an experiment's model.

    Args:
        experiment: its weights are read whenever a function of the view is called.
        history: the rows of metrics.jsonl.
        stop: checked between batches of samples.
        noise: seed of the samples of a density model; those of a generator have the experiment's.
    """
    model = experiment.model
    ts = next(experiment.task.batches(Split.VALIDATION, batch_size=1, epoch=0)).ts
    asked = _Functions(experiment, ts)
    return ModelView(
        history=history,
        animate=experiment.options.animate,
        predict=asked.predict,
        answer=asked.answer,
        path=asked.path,
        encode=asked.encode,
        decode=asked.decode,
        predict_finely=asked.predict_finely,
        tells=experiment.tells,
        end_time=model.end_time if isinstance(model, PathModel) else None,
        guidance=model.guidance if isinstance(model, PathModel) else 1.0,
        answers=experiment.answers,
        solves=model.numerics is not Numerics.NONE,
        finer=experiment.integrator.solver.finer,
        sample=_sampler(experiment, ts, stop, noise),
        output_dir=experiment.output_dir,
        continuous=Answer.STATES in model.answers(),
        field=model.learned_field(),
        exact=Answer.TRUTH in model.answers(),
    )


def samples_by(experiment: Experiment, by: Generator, stop: StopRequest) -> Draw:
    """A function that draws samples with a generator other than the model's own, from the same noise."""
    return cached_samples(partial(_generated, experiment, stop=stop, by=by))


class _Functions:
    """The functions of a view that ask the model; `ts` are the times of the task. See `ModelView`."""

    def __init__(self, experiment: Experiment, ts: Times) -> None:
        self.experiment, self.ts, self.dtype = experiment, ts, experiment.dtype
        self.fine_experiment = cache(experiment.fine)  # made when first asked

    def answer(self, inputs: Tensor, ts: Times | None) -> Outputs:
        return self.experiment.outputs(Batch(inputs, self.ts if ts is None else ts, inputs).to(self.dtype))

    def predict(self, inputs: Tensor, ts: Times | None) -> Tensor:
        return self.answer(inputs, ts).values if self.experiment.answers else self.predict_finely(inputs)

    def predict_finely(self, inputs: Tensor) -> Tensor:
        fine = self.fine_experiment()
        batch = Batch(inputs.to(fine.device), self.ts.to(fine.device), inputs)
        return fine.outputs(batch.to(torch.float64)).values

    def encode(self, inputs: Tensor) -> Encoding:
        return self.experiment.model.encode(inputs.to(self.dtype))

    def path(self, encoding: Encoding, times: int) -> Trajectory:
        with self.experiment.options.autocast(self.experiment.device):
            integrate = self.experiment.integrate(len(encoding.y0))
            ts = self.ts.to(self.dtype)
            return self.experiment.model.path(encoding.to(self.dtype), ts, integrate, times=times)

    def decode(self, encoding: Encoding, ts: Times) -> Tensor:
        integrate = self.experiment.integrate(len(encoding.y0))
        return self.experiment.model.decode(encoding.to(self.dtype), ts.to(self.dtype), integrate)


def _sampler(experiment: Experiment, ts: Times, stop: StopRequest, noise: int) -> Draw | None:
    """A function that draws samples at several times, the last being samples of the data; always the same ones.

    None if the model gives no samples.
    """
    model, dtype, device = experiment.model, experiment.dtype, experiment.device
    if model.generator() is not None:
        return cached_samples(partial(_generated, experiment, stop=stop))
    if not isinstance(model, DensityModel):
        return None

    def sample(count: int, times: int, given: Sequence[Tensor]) -> Drawn:
        along = torch.linspace(float(ts[0]), float(ts[-1]), times, dtype=dtype, device=device)
        with RandomState.now(device).again():
            torch.manual_seed(noise)
            return model.sample(count, along, experiment.integrator, given=[z.to(dtype) for z in given])

    return cached_samples(sample)


@torch.no_grad()
def _generated(
    experiment: Experiment,
    count: int,
    times: int,
    given: Sequence[Tensor],
    *,
    stop: StopRequest,
    by: Generator | None = None,
) -> Drawn:
    """`count` samples of a generative model, drawn in batches of `trainer.eval_batch_size`."""
    paths, densities, evaluations = list[Trajectory](), list[Tensor](), Means()
    for numbers in torch.arange(count).split(experiment.options.eval_batch_size):
        if paths:
            stop.check()
        with experiment.integrator.ledger.phase(Phase.SAMPLING) as tally:
            chosen = [z[numbers.to(z.device)] for z in given]
            path, density = _samples(experiment, numbers, times, chosen, by)
        paths.append(path)
        densities += [] if density is None else [density]
        evaluations.add({"of a batch": tally.evaluations})
    log_density = torch.cat(densities) if densities else None
    return Drawn(torch.cat(paths, dim=1), log_density, evaluations.read()["of a batch"])


def _samples(
    experiment: Experiment, numbers: Tensor, times: int, given: Sequence[Tensor], by: Generator | None
) -> tuple[Trajectory, Tensor | None]:
    """The samples of these numbers, and their log density if the solve gives it."""
    if by is None:
        return experiment.generate_with_density(numbers, times=times, given=given)
    return experiment.generate(numbers, times=times, given=given, by=by), None
