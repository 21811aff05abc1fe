"""Writes a trained model, or its field, to a file, and compares the file's output with the model's."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ode_runner.batch import Batch, Split
from ode_runner.errors import IncompatibleChoice, RefusedInput, as_typed
from ode_runner.experiment.experiment import Experiment
from ode_runner.exporting.formats import FORMATS, Format, write_weights
from ode_runner.exporting.frozen_model import FrozenField, FrozenModel, TraceableSolves
from ode_runner.gradients.recorded import RecordProblems, in_turn
from ode_runner.models.copies import copied
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.record import RunRecord
from ode_runner.tasks.texts.token_task import TokenTask

WEIGHTS = "safetensors"
FIELD, SOLVE = PARTS = ("field", "solve")
EXAMPLES = 3  # test samples for the comparison


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file of a trained model."""

    path: Path
    tensors: int  # in a file of weights; else 0
    samples: int  # in the comparison; 0 for weights
    apart: float | None  # largest difference from the model's output, relative to its maximum; None: unknown


def write_export(experiment: Experiment, record: RunRecord, *, file_format: Any, part: Any, folder: Path) -> Exported:
    """Writes the field or the whole model to a file, with an example of arguments and output, and a description.

    Args:
        experiment: with the trained model, which is not changed.
        record: of its run.
        file_format: as typed, a name of `FORMATS` or `safetensors`, the weights alone.
        part: as typed, `field` or `solve`; ignored for weights.
        folder: where to write; it exists.

    Raises:
        RefusedInput: there is no such format or part, or a package is missing.
        IncompatibleChoice: the model has no field or draws texts, its solver's steps are not fixed, or it cannot be
            traced.
    """
    formats = [*FORMATS, WEIGHTS]
    for name, value, known in (("format", file_format, formats), ("part", part, PARTS)):
        if value not in known:
            raise RefusedInput(f"{name}={as_typed(value)}: there is none of this name. Available: {', '.join(known)}")
    if file_format == WEIGHTS:
        return _write_weights(experiment, record, folder)
    if isinstance(experiment.task, TokenTask):
        raise IncompatibleChoice(
            f"model={record.choices['model']} draws texts, for which there is no file but that of its weights. Use "
            "format=safetensors."
        )
    experiment = replace(experiment, model=copied(experiment.model).cpu())
    for weight in experiment.model.parameters():
        weight.requires_grad_(False)
    with torch.no_grad():
        try:
            module, example, batch = _field(experiment, record) if part == FIELD else _solve(experiment)
        except NotImplementedError as error:  # a model raises it for what it does not support
            raise IncompatibleChoice(
                f"model={record.choices['model']}: {error}, so that there is no {part} for a file. Use "
                "format=safetensors."
            ) from error
        form = FORMATS[file_format]
        of_samples = int(part == SOLVE and experiment.task.spec.every_time)
        return _write(form, module, example, batch, of_samples=of_samples, path=folder / f"{part}.{form.ending}")


def _write_weights(experiment: Experiment, record: RunRecord, folder: Path) -> Exported:
    path = folder / "weights.safetensors"
    about = {**{axis: str(choice) for axis, choice in record.choices.items()}, "fingerprint": record.fingerprint}
    weights = experiment.model.state_dict()
    apart = write_weights(weights, path, about=about)
    return Exported(path=path, tensors=len(weights), samples=0, apart=apart)


def _write(
    form: Format, module: nn.Module, example: Sequence[Tensor], batch: Sequence[int], *, of_samples: int, path: Path
) -> Exported:
    """`batch` are the arguments whose first axis is samples; `of_samples` is the axis of samples in the output."""
    own = module(*example)
    form.write(module, example, path, batch=batch)
    names = (
        ["inputs"] if isinstance(module, FrozenModel) else ["t", "y", *(f"given{i}" for i in range(len(example) - 2))]
    )
    arrays = {name: x.numpy() for name, x in zip(names, example, strict=True)}
    arrays["answer"] = own.numpy()
    np.savez(path.with_name("example.npz"), allow_pickle=False, **arrays)
    shapes: dict[str, list[Any]] = {name: list(x.shape) for name, x in zip(names, example, strict=True)}
    for i in batch:
        shapes[names[i]][0] = "batch"
    answer: list[Any] = list(own.shape)
    draws = answer[of_samples] // len(example[batch[0]])  # draws of each input, one draw of all after another
    answer[of_samples] = f"{draws} * batch" if draws > 1 else "batch"
    said: dict[str, Any] = {"file": path.name, "arguments": shapes, "answer": answer, "example": "example.npz"}
    if isinstance(module, FrozenModel):
        said["times"] = module.get_buffer("ts").tolist()
    text = json.dumps(said, indent=2).encode()
    atomic_write(path.with_name("export.json"), lambda file: file.write(text))
    found = form.answer(path, example)
    apart = None if found is None else _apart(found, own)
    return Exported(path=path, tensors=0, samples=len(example[batch[0]]), apart=apart)


def _apart(found: Tensor, own: Tensor) -> float:
    return float((found - own).abs().max() / own.abs().max().clamp_min(torch.finfo(own.dtype).tiny))


def _field(experiment: Experiment, record: RunRecord) -> tuple[nn.Module, list[Tensor], list[int]]:
    """The field of the problem that the model solves, with an example of time, states and given tensors."""
    recorded, integrator = RecordProblems(), experiment.integrator
    generator = experiment.model.generator()
    if not integrator.solver.of_ordinary_equations and generator and isinstance(generator.field, DenoisingField):
        integrator = replace(integrator, solver=experiment.fine_integrator().solver)  # a sampler gives no density
    replace(experiment, integrator=replace(integrator, gradient=recorded)).outputs(_examples(experiment))
    if not recorded.problems:
        raise IncompatibleChoice(
            f"model={record.choices['model']} solves nothing, so there is no field. Use part=solve."
        )
    if (fields := len(in_turn(recorded.problems))) > 1:
        raise IncompatibleChoice(
            f"part=field: model={record.choices['model']} solves {fields} equations in turn, and a file holds the "
            "field of one. Use format=safetensors, which has their weights."
        )
    problem = recorded.problems[0]
    field, given = problem.field.field, [z.detach() for z in problem.field.given]
    if "forward" not in field.call_weights:
        calls = " and ".join(field.call_weights)
        raise IncompatibleChoice(
            f"part=field: that of model={record.choices['model']} has no derivative, but {calls}. Use "
            "format=safetensors."
        )
    example = [problem.ts[0].to(problem.y0), problem.y0.detach(), *given]
    return FrozenField(field), example, list(range(1, len(example)))


def _solve(experiment: Experiment) -> tuple[nn.Module, list[Tensor], list[int]]:
    """The model from inputs to outputs, with the solver's steps for the task's own times."""
    batch, solves = _examples(experiment), TraceableSolves(experiment.integrator.solver)
    experiment.model(batch.inputs, batch.ts, solves)
    return FrozenModel(experiment.model, batch.ts, solves), [batch.inputs], [0]


def _examples(experiment: Experiment) -> Batch:
    """A few test samples. A single one is repeated, since tracing would specialise to an axis of length 1."""
    batch = next(experiment.task.batches(Split.TEST, batch_size=EXAMPLES, epoch=0)).to(experiment.dtype).cpu()
    return batch._replace(inputs=batch.inputs[torch.arange(EXAMPLES) % len(batch.inputs)])
