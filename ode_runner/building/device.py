"""The device of a run, and its precision."""

import warnings
from functools import cache

import torch

from ode_runner.errors import RefusedInput
from ode_runner.experiment.options import TrainerOptions

OF_GPUS = {"tf32": "fp32", "fp16": "bf16"}  # precisions that only NVIDIA GPUs have, and what to use elsewhere


def find_device(name: str, *, precision: str) -> torch.device:
    """The device that `trainer.device` names; a GPU among several becomes torch's current one.

    Raises:
        RefusedInput: there is no such device here; the message says why, if torch tells.
    """
    found, reason = _gpus()
    instead = f" trainer.precision={OF_GPUS[precision]}" if precision in OF_GPUS and not found else ""
    otherwise = f"Use trainer.device=auto{instead}."
    if name == "auto":
        return torch.device("cuda" if found else "mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not found:
        raise RefusedInput(f"trainer.device={name} is not available here{reason}. {otherwise}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RefusedInput(f"trainer.device={name} is not available here. {otherwise}")
    if device.index is not None:
        if device.index >= found:
            there = "is one GPU here, cuda:0" if found == 1 else f"are {found} GPUs here, cuda:0 to cuda:{found - 1}"
            raise RefusedInput(f"trainer.device={name}: there {there}. {otherwise}")
        torch.cuda.set_device(device)
    return device


def set_precision(options: TrainerOptions, device: torch.device) -> None:
    """Allow TF32 in matmuls and convolutions on a GPU for precision=tf32 only: torch's convolutions use it by default.

    Raises:
        RefusedInput: the device does not have this precision.
    """
    precision = options.precision
    if precision == "tf32" and device.type != "cuda":
        raise RefusedInput(
            f"trainer.precision=tf32 needs a GPU of NVIDIA's, and this run is on {device.type}. "
            f"Use trainer.precision={OF_GPUS[precision]}."
        )
    if precision == "fp16" and device.type != "cuda":
        raise RefusedInput(
            f"trainer.precision=fp16 needs a GPU, and this run is on {device.type}. "
            f"Use trainer.precision={OF_GPUS[precision]}."
        )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


@cache
def _gpus() -> tuple[int, str]:
    """The number of GPUs that torch can use and, if there are none, a clause that says why, to continue a sentence.

    Torch gives the reason, for example a driver that is too old, in a warning once per process.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    messages = [str(warning.message) for warning in caught if "CUDA" in str(warning.message)]
    if count or not messages:
        return count, "" if torch.version.cuda or count else ": this torch is built without CUDA"
    said = " ".join(messages[0].split()).removeprefix("CUDA initialization: ")
    said = said.partition(". ")[0].partition(" (Triggered")[0].rstrip(".")
    return 0, f": {said[:1].lower()}{said[1:]}"
