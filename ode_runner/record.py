"""record.json: everything a table needs about one run."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

FILE = "record.json"
BOOKKEEPING = ("seed", "sweep", "rerun", "output_dir", "logger")  # do not change what a run computes


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    INCOMPATIBLE = "incompatible"
    DIVERGED = "diverged"
    SOLVER_FAILED = "solver_failed"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"


@dataclass(kw_only=True)
class RunRecord:
    """One run: what was chosen, how it ended, what it reached and what it cost."""

    choices: dict[str, str]  # {"task": "mnist", "model": …}; "-" where a model has no use for the choice
    seed: int
    fingerprint: str
    status: RunStatus
    reason: str = ""  # one sentence unless all went as asked
    metrics: dict[str, float] = field(default_factory=dict)  # final, e.g. test/accuracy
    cost: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str = ""

    def write(self, folder: Path) -> None:
        """Whole or not at all."""
        unfinished = folder / f"{FILE}.unfinished"
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=2, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(folder / FILE)) from error
        os.replace(unfinished, folder / FILE)

    def hyperparameters(self) -> dict[str, bool | int | float | str]:
        """What runs are compared by: the choices, the seed, then every option under `with`."""
        options: dict[str, bool | int | float | str] = {}
        for group in (*self.choices, "optimizer", "schedule", "trainer"):
            for key, value in flat(self.config[group]).items():
                options[f"with.{group}.{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
        return {**self.choices, "seed": self.seed, **options}

    @classmethod
    def read(cls, folder: Path) -> "RunRecord | None":
        """The folder's record, or None where there is none that can be read."""
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls(**{**content, "status": RunStatus(content["status"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def computed(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The part of a configuration that decides what is computed, the seed apart: runs that share it are repetitions."""
    return {key: value for key, value in config.items() if key not in BOOKKEEPING and choices.get(key) != "-"}


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted name, without the classes behind them."""
    by_name: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            by_name |= flat(value, f"{prefix}{key}.")
        elif key != "_target_":
            by_name[f"{prefix}{key}"] = value
    return by_name
