"""`trainer.summary`: the layers of a model, the shapes of their outputs for one batch, and their parameters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ode_runner.batch import Split
from ode_runner.devices.side_effects import without_side_effects
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import Phase
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger
from ode_runner.recording.text_layout import aligned

HEADS = ("layer", "kind", "weights", "output", "parameters")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row of the summary: a module with parameters of its own, or without submodules."""

    name: str  # within the model
    kind: str
    weights: list[list[int]]  # shapes of its own parameters
    output: list[int] | None  # shape, with the batch axis first; None: it returns several tensors, or is not called
    parameters: int  # of its own

    def row(self) -> tuple[str, str, str, str, str]:
        """The cells of the row, in the order of HEADS."""
        weights = ", ".join(map(_times, self.weights))
        return self.name, self.kind, weights, _times(self.output) if self.output else "", f"{self.parameters:,}"


def report_layers(experiment: Experiment, *, display: Display, logger: MetricLogger) -> list[dict[str, Any]]:
    """Print and log the layers, and return them for the record; empty unless trainer.summary is set."""
    if not experiment.options.summary:
        return []
    layers = layers_of(experiment)
    for line in aligned([HEADS, *(layer.row() for layer in layers)], right={len(HEADS) - 1}):
        display.say(f"  {line}")
    logger.text("layers", as_markdown(layers))
    return [asdict(layer) for layer in layers]


def layers_of(experiment: Experiment) -> list[Layer]:
    """Every layer, with the shape of its first output for the first batch of validation.

    A field that uses the weights of its layers directly, as those of mlp do, does not call these layers.

    The evaluations are counted under diagnostics. Random state and buffers are left as they were.
    """
    model, shapes = experiment.model, dict[str, list[int]]()
    named = {name: module for name, module in model.named_modules() if _is_layer(module)}
    with _noting(named, shapes), without_side_effects(model, experiment.device):
        _answer(experiment)
    return [
        Layer(
            name=name,
            kind=type(module).__name__,
            weights=[list(parameter.shape) for parameter in module.parameters(recurse=False)],
            output=shapes.get(name),
            parameters=_own(module),
        )
        for name, module in named.items()
    ]


def as_markdown(layers: Sequence[Layer]) -> str:
    """The layers as a Markdown table."""
    lines = [HEADS, ("---", "---", "---", "---", "---:"), *(layer.row() for layer in layers)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _answer(experiment: Experiment) -> None:
    size = min(experiment.options.batch_size, experiment.task.size(Split.VALIDATION))
    batch = next(experiment.task.batches(Split.VALIDATION, batch_size=size, epoch=0)).to(experiment.dtype)
    experiment.model.eval()
    with suppress(NumericalFailure), torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        experiment.loss(batch)


@contextmanager
def _noting(named: dict[str, nn.Module], shapes: dict[str, list[int]]) -> Iterator[None]:
    """Inside, the shape of each module's first output is noted."""

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(name, list(output.shape))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in named.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_layer(module: nn.Module) -> bool:
    return not list(module.children()) or _own(module) > 0


def _times(shape: Sequence[int]) -> str:
    """A shape as text: [64, 2] as `64 x 2`."""
    return " x ".join(map(str, shape)) or "1"


def _own(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))
