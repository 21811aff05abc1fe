"""record.json: everything a table needs about one run."""

import datetime
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.bookkeeping import (
    COMMAND_OPTIONS,
    COMMANDS,
    KNOWN_BY,
    OBSERVERS,
    PLACEMENT,
    PROCESSES,
    WATCHING,
)
from ode_runner.recording.regular_file import read_regular
from ode_runner.recording.strict_json import numbers, to_json

FILE = "record.json"
MOST_BYTES = 10_000_000  # of a file; a record is of some thousand
LARGEST = sys.float_info.max  # whole numbers in JSON may be larger, and can be compared with nothing
AXES = ("task", "model", "network", "solver", "gradient", "regularizer")  # what a run is chosen by
UNUSED, NONE = "-", "none"  # an axis that a choice has no use for; one on which nothing is chosen
# Keys of a configuration that do not change what a run computes. A tolerance does, as an option of its solver.
NOT_COMPUTED = (
    "seed",
    "tolerance",
    "per_sample",
    "recipe",
    *PLACEMENT,
    *PROCESSES,
    *OBSERVERS,
    *COMMANDS,
    *COMMAND_OPTIONS,
)


class RunStatus(StrEnum):
    """The status of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    PRUNED = "pruned"  # by a search
    INCOMPATIBLE = "incompatible"
    DIVERGED = "diverged"
    SOLVER_FAILED = "solver_failed"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"


@dataclass(kw_only=True)
class RunRecord:
    """One run: what was chosen, how it ended, what it reached and what it cost."""

    choices: dict[str, str]  # {"task": "mnist", "model": …}; UNUSED where a model has no use for the choice
    seed: int
    fingerprint: str  # of all that decides a result, the seed apart
    status: RunStatus
    training: str = ""  # fingerprint of what the weights depend on: the same with other options of the test alone
    reason: str = ""  # one sentence unless all went as asked
    metrics: dict[str, float] = field(default_factory=dict)  # final, e.g. test/accuracy
    measured_with: dict[str, str] = field(default_factory=dict)  # by metric, what it has a meaning for alone
    cost: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, str | None] = field(default_factory=dict)  # by option of a task, or model.NAME: hash of files
    code: dict[str, str] = field(default_factory=dict)  # by place in the folder `code`: SHA-256 of a file of one's own
    environment: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)  # of the model, where trainer.summary asks for them
    config_dirs: list[str] = field(default_factory=list)  # folders of choices of one's own, by their whole paths
    started: str = ""
    finished: str = ""

    def write(self, folder: Path) -> None:
        """Write record.json into `folder`, whole or not at all."""
        content = to_json(asdict(self), indent=2).encode()
        atomic_write(folder / FILE, lambda file: file.write(content))

    def hyperparameters(self) -> dict[str, bool | int | float | str]:
        """What runs are compared by: the choices, the seed, then every option in use, under `with`, that is not null.

        A null beside the numbers of other runs would make a column of texts, which cannot be filtered by range.
        """
        options: dict[str, bool | int | float | str] = {}
        used = [group for group, choice in self.choices.items() if choice not in (UNUSED, NONE)]
        for group in (*used, "optimizer", "schedule", "trainer"):
            watching, chosen = WATCHING.get(group, ()), flat(self.config.get(group, {}))
            set_ = {key: value for key, value in chosen.items() if value is not None and key not in watching}
            for key, value in set_.items():
                options[f"with.{group}.{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
        return {**self.choices, "seed": self.seed, **options}

    @classmethod
    def read(cls, folder: Path) -> "RunRecord | None":
        """The folder's record, or None where there is none that can be read, or one that no run has written."""
        try:
            content = json.loads(read_regular(folder / FILE, most_bytes=MOST_BYTES).decode("utf-8"))
            read = {"status": RunStatus(content["status"]), "metrics": numbers(content["metrics"])}
            content["choices"].setdefault("regularizer", NONE)  # of release 0.1, which had none
            record = cls(**{**content, **read})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return record if record._is_well_formed() else None

    def _is_well_formed(self) -> bool:
        """Whether its parts are of their types: a record of the right keys may still hold the wrong things."""
        mappings = (
            self.choices,
            self.metrics,
            self.measured_with,
            self.cost,
            self.config,
            self.contents,
            self.code,
            self.environment,
        )
        if not all(isinstance(mapping, dict) for mapping in mappings):
            return False
        texts = (self.fingerprint, self.training, self.reason, self.started, self.finished, *self.choices.values())
        measured = [*self.metrics.values(), *(value for value in self.cost.values() if isinstance(value, int | float))]
        return (
            all(isinstance(text, str) for text in texts)
            and isinstance(self.config_dirs, list)
            and isinstance(self.layers, list)
            and type(self.seed) is int
            and all(
                isinstance(number, int | float) and abs(number) <= LARGEST for number in measured if number == number
            )
            and all(isinstance(self.config.get(group, {}), dict) for group in (*self.choices, *WATCHING))
        )


def computed(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The part of a configuration that decides what is computed, the seed apart: runs that share it are repetitions."""
    return {
        key: _without_idle(key, value, choices)
        for key, value in config.items()
        if key not in NOT_COMPUTED and choices.get(key) not in (UNUSED, NONE)
    }


def _without_idle(group: str, options: Any, choices: Mapping[str, str]) -> Any:
    """The options of a group that matter: of several regularisers, those that the model has a use for."""
    if group in WATCHING:
        kept = {name: option for name, option in options.items() if name not in WATCHING[group]}
        return {name: KNOWN_BY.get(group, {}).get(name, option) for name, option in kept.items()}
    if group == "regularizer" and group in choices:
        return {name: option for name, option in options.items() if name in choices[group].split("+")}
    return options


def utc_now() -> str:
    """The present time in UTC, in ISO 8601 to whole seconds, as records state it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted name, without the classes behind them."""
    by_name: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            by_name |= flat(value, f"{prefix}{key}.")
        elif key != "_target_":
            by_name[f"{prefix}{key}"] = value
    return by_name
