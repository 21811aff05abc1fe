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
MOST_BYTES = 10_000_000  # of a file; a record has some thousand
LARGEST = sys.float_info.max  # integers in JSON may be larger, and then cannot be compared with floats
AXES = ("task", "model", "network", "solver", "gradient", "regularizer")  # the groups whose choices define a run
UNUSED, NONE = "-", "none"  # the choice of an axis that the model does not use; of one where nothing is chosen
# Keys of a configuration that do not change what a run computes. `tolerance` does, but as an option of the solver.
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
    """One run: its choices, status, metrics and cost."""

    choices: dict[str, str]  # {"task": "mnist", "model": …}; UNUSED if the model does not use the choice
    seed: int
    fingerprint: str  # of all that determines the result, except the seed
    status: RunStatus
    training: str = ""  # fingerprint of what the weights depend on, so without options that affect only the test
    reason: str = ""  # one sentence, if something did not go as asked
    metrics: dict[str, float] = field(default_factory=dict)  # final, e.g. test/accuracy
    measured_with: dict[str, str] = field(default_factory=dict)  # by metric: it is comparable only within this
    invalid: dict[str, str] = field(default_factory=dict)  # by metric: why its value is not what the name says
    results: list[str] = field(default_factory=list)  # lines printed of the tested model, such as estimates
    warnings: list[str] = field(default_factory=list)  # printed in yellow, also before the test
    cost: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, str | None] = field(default_factory=dict)  # by option of a task, or model.NAME: hash of files
    code: dict[str, str] = field(default_factory=dict)  # by place in the folder `code`: SHA-256 of a user's file
    environment: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)  # of the model, if trainer.summary is set
    config_dirs: list[str] = field(default_factory=list)  # absolute paths of folders with the user's own choices
    started: str = ""
    finished: str = ""

    def write(self, folder: Path) -> None:
        """Write record.json into `folder`, whole or not at all."""
        content = to_json(asdict(self), indent=2).encode()
        atomic_write(folder / FILE, lambda file: file.write(content))

    def hyperparameters(self) -> dict[str, bool | int | float | str]:
        """Choices, seed and, under `with`, every option in use that is not null, for the comparison of runs.

        A null among the numbers of other runs would make a column of texts, which cannot be filtered by range.
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
        """The folder's record; None if there is none, it cannot be read, or it is not well-formed."""
        try:
            content = json.loads(read_regular(folder / FILE, most_bytes=MOST_BYTES).decode("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return cls.of(content)

    @classmethod
    def of(cls, content: Any) -> "RunRecord | None":
        """The record that a file has the content of, or None where no run has written that."""
        try:
            read = {"status": RunStatus(content["status"]), "metrics": numbers(content["metrics"])}
            content["choices"].setdefault("regularizer", NONE)  # of release 0.1, which had none
            record = cls(**{**content, **read})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return record if record._is_well_formed() else None

    def _is_well_formed(self) -> bool:
        """Whether the fields have the right types: a file with the right keys may still have wrong values."""
        mappings = (
            self.choices,
            self.metrics,
            self.measured_with,
            self.invalid,
            self.cost,
            self.config,
            self.contents,
            self.code,
            self.environment,
        )
        if not all(isinstance(mapping, dict) for mapping in mappings):
            return False
        named = (*self.choices.values(), *self.invalid.values())
        texts = (self.fingerprint, self.training, self.reason, self.started, self.finished, *named)
        measured = [*self.metrics.values(), *(value for value in self.cost.values() if isinstance(value, int | float))]
        return (
            all(isinstance(text, str) for text in texts)
            and isinstance(self.config_dirs, list)
            and isinstance(self.layers, list)
            and all(isinstance(texts, list) for texts in (self.results, self.warnings))
            and all(isinstance(text, str) for text in (*self.results, *self.warnings))
            and type(self.seed) is int
            and all(
                isinstance(number, int | float) and abs(number) <= LARGEST for number in measured if number == number
            )
            and all(isinstance(self.config.get(group, {}), dict) for group in (*self.choices, *WATCHING))
        )


def computed(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The part of a configuration that determines what is computed, without the seed: repetitions have it in common."""
    return {
        key: _without_idle(key, value, choices)
        for key, value in config.items()
        if key not in NOT_COMPUTED and choices.get(key) not in (UNUSED, NONE)
    }


def _without_idle(group: str, options: Any, choices: Mapping[str, str]) -> Any:
    """The options of a group that have an effect; of several regularisers, those that the model uses."""
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
    """Nested options by dotted name, without `_target_`."""
    by_name: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            by_name |= flat(value, f"{prefix}{key}.")
        elif key != "_target_":
            by_name[f"{prefix}{key}"] = value
    return by_name
