"""Checkpoints that survive being killed while they are written."""

import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ode_runner.errors import CheckpointRefused
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.regular_file import NoRegularFile, check_regular

FORMAT = 2  # version 2 has the seed


def load_tensors(path: Path) -> Any:
    """The content of a file of torch.save, on the CPU: tensors, numbers and text only.

    Raises:
        CheckpointRefused: the file is missing or incomplete, or differs from what was written in any bit.
    """
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare checksums
        if damaged is None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Validating sparse tensor invariants")
                return torch.load(path, map_location="cpu", weights_only=True)
        reason = f"checksum of {damaged}"
    except FileNotFoundError:
        raise CheckpointRefused(f"{path} is not there.") from None
    except NoRegularFile as error:
        reason = str(error.strerror)
    except Exception as error:  # an incomplete file fails in many ways, all of which mean the same
        reason = type(error).__name__
    raise CheckpointRefused(f"{path} is damaged ({reason}).")


class Checkpoints:
    """`last.pt` to resume from, `previous.pt` in case `last.pt` is damaged, `best.pt` with the weights to evaluate.

    Each file is always complete. All have the run's fingerprint and seed, and load with `weights_only=True`.
    """

    def __init__(self, folder: Path, *, fingerprint: str, seed: int) -> None:
        self.folder = folder
        self.owner = {"format": FORMAT, "fingerprint": fingerprint, "seed": seed}
        self.last, self.previous, self.best = (folder / f"{name}.pt" for name in ("last", "previous", "best"))

    def save_last(self, state: dict[str, Any]) -> None:
        self._write(self.last, state, keep=self.previous)

    def save_best(self, state: dict[str, Any]) -> None:
        self._write(self.best, state)

    def stage(self, number: int) -> Path:
        """The file of the data that a stage of training learns from."""
        return self.folder / f"stage-{number}.pt"

    def save_stage(self, number: int, made: dict[str, Any]) -> None:
        self._write(self.stage(number), made)

    def load_newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest sound state, if any, and a sentence for each file refused on the way."""
        refusals: list[str] = []
        for path in (self.last, self.previous):
            if path.exists():
                try:
                    return self.load(path), refusals
                except CheckpointRefused as refusal:
                    refusals.append(str(refusal))
        return None, refusals

    def load(self, path: Path) -> dict[str, Any]:
        """The state in `path`, on the CPU.

        Raises:
            CheckpointRefused: the file is damaged, or belongs to a run with another configuration or seed.
        """
        content = load_tensors(path)
        if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
            raise CheckpointRefused(f"{path} is no checkpoint of a run.")
        state, owner = content.pop("state"), content
        if owner != self.owner:
            differing = [name for name, own in self.owner.items() if owner.get(name) != own]
            owned_by = ", ".join(f"{name} {owner.get(name)}" for name in differing)
            raise CheckpointRefused(f"{path} belongs to another run ({owned_by}).")
        return state

    def _write(self, path: Path, state: dict[str, Any], *, keep: Path | None = None) -> None:
        content = {**self.owner, "state": state}
        self.folder.mkdir(exist_ok=True)  # without parents: if the run folder was removed, saving must fail
        atomic_write(path, partial(torch.save, content), keep=keep)
