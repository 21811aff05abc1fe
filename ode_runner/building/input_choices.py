"""Which networks read a task's inputs, as far as classes tell, and by the spec of a task that is made."""

from collections.abc import Mapping

from ode_runner.batch import TaskSpec
from ode_runner.building.members import ways
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.base import Model
from ode_runner.networks.base import Network
from ode_runner.networks.tokens import TokenNetwork
from ode_runner.tasks.base import Task

READERS = ("mlp", "sequence", "recurrent_vae", "transformer")  # at least one network for each kind of inputs


def takes_inputs(task: type[Task], model: type[Model], network: type[Network]) -> bool:
    """Whether a model with a network of this class takes the task's kind of inputs, as far as classes tell.

    This is for listing models before there are data. Refusals come from the objects, which know the input shape.
    """
    if model.of_images and not task.gives_images:
        return False
    if "network" in model.unused_axes():
        return True
    return issubclass(network, model.network_type) and _reads(network, task)


def _reads(network: type[Network], task: type[Task]) -> bool:
    """Whether a network reads the task's kind of inputs, as far as classes tell."""
    if task.gives_tokens:
        return network.takes_tokens
    without_positions = task.gives_points or task.gives_series or task.gives_observations
    of_series = not (task.gives_points or task.gives_images)
    return (
        not (issubclass(network, TokenNetwork) and without_positions)
        and (task.gives_images or not network.of_images)
        and (of_series or not network.of_series)
    )


def check_inputs(choices: Mapping[str, str], spec: TaskSpec, *, model: type[Model], network: type[Network]) -> None:
    """Raises IncompatibleChoice if the network does not read such inputs; the message names networks that do."""
    if "network" in model.unused_axes():
        return
    chosen, instead = f"network={choices['network']}", ("network", READERS)
    of_task = f"inputs of task={choices['task']}"
    if spec.tokens and not network.takes_tokens:
        raise IncompatibleChoice(f"{of_task} are tokens, and {chosen} takes numbers. Use {ways(instead)}.")
    if network.of_images and len(spec.input_shape) != 3:
        raise IncompatibleChoice(
            f"{chosen} needs images (channels, height, width); this task's inputs have shape {spec.input_shape}. "
            f"Use {ways(instead)}."
        )
    if network.of_series and not spec.sequence:
        raise IncompatibleChoice(
            f"{chosen} reads sequences of observations; this task's inputs have shape {spec.input_shape}. "
            f"Use {ways(('task', ['spiral_vae', 'series_forecast']), instead)}."
        )
    if spec.blanks and not network.takes_blanks:
        raise IncompatibleChoice(f"{of_task} lack some numbers, and {chosen} needs all of them. Use {ways(instead)}.")
