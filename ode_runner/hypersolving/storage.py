"""Corrections in files."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ode_runner.errors import CheckpointRefused, RefusedInput
from ode_runner.hypersolving.corrections import StateCorrection
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.checkpoint import load_tensors
from ode_runner.recording.own_code import hashes

FILE = "correction.pt"


class Fitted(NamedTuple):
    """What a correction was fitted to."""

    weights: str  # a hash of the file of the run's best weights; if it has none, the run's training fingerprint
    solver: str  # the name of the method

    @classmethod
    def of_run(cls, folder: Path, training: str, solver: str) -> "Fitted":
        """A run, in a folder and with a training fingerprint, and a method."""
        best = hashes({"best": folder / "checkpoints" / "best.pt"})["best"]
        return cls(best or training, solver)


def save_correction(folder: Path, correction: StateCorrection, fitted: Fitted) -> Path:
    """Write a correction into `correction.pt` in `folder`; returns the path."""
    content = {**fitted._asdict(), "correction": correction.state()}
    atomic_write(folder / FILE, partial(torch.save, content))
    return folder / FILE


def load_correction(path: Path, expected: Fitted) -> StateCorrection:
    """The correction in a file, or in the file of a folder, if it was fitted to the same weights and method.

    Raises:
        RefusedInput: the file is missing, damaged or no correction, or it was fitted to something else.
    """
    path, how = path / FILE if path.is_dir() else path, "ode-run hypersolve=RUN_FOLDER makes one."
    try:
        content: Any = load_tensors(path)
    except CheckpointRefused as damage:
        raise RefusedInput(f"correction={path}: {damage} {how}") from damage
    if not isinstance(content, dict) or not {"correction", *Fitted._fields} <= content.keys():
        raise RefusedInput(f"correction={path} holds no correction. {how}")
    found = Fitted(*(content[name] for name in Fitted._fields))
    if found.weights != expected.weights:
        raise RefusedInput(
            f"correction={path} is of another run, or this one was trained again since. Fit one by "
            "hypersolve=RUN_FOLDER."
        )
    if found.solver != expected.solver:
        raise RefusedInput(
            f"correction={path} is of solver={found.solver}, and this is solver={expected.solver}. Use "
            f"solver={found.solver}."
        )
    return StateCorrection.from_state(content["correction"])
