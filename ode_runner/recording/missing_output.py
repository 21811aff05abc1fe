"""Output that a command asks for but that a completed run was made without, such as pictures or diagnostics."""

from collections.abc import Mapping
from typing import Any

from ode_runner.errors import as_typed
from ode_runner.recording.bookkeeping import OBSERVERS, WATCHING
from ode_runner.recording.record import NONE, RunRecord

DRAWN = "pictures"


def missing_output(now: RunRecord, choices: Mapping[str, str], done: RunRecord, *, vain: str) -> str:
    """A sentence on the options of `now` that observe a run and had other values when it was made; "" without any.

    Args:
        now: the record of the command, without results.
        choices: the choice of each group.
        done: the record of the completed run.
        vain: the sentence that the diagnostics chosen measure nothing in the model chosen; "" if they do.
    """
    asked = [word for word, value, before in _options(now, choices, done) if value and value != before]
    left = [word for word in asked if not (vain and word.startswith("diagnostics="))]
    again = f"made without {' '.join(left)}, so its results are missing: rerun=true repeats the run." if left else ""
    return " ".join(filter(None, (again, vain if left != asked else "")))


def _options(now: RunRecord, choices: Mapping[str, str], done: RunRecord) -> list[tuple[str, Any, Any]]:
    """Each option that observes a run and that `done` has: as typed, its value now, and its value in `done`."""
    found = []
    for group in OBSERVERS:
        if choices.get(group, NONE) != NONE and group in done.config:
            found.append((f"{group}={choices[group]}", now.config.get(group), done.config[group]))
    places = [((), DRAWN), *(((group,), option) for group, options in WATCHING.items() for option in options)]
    for place, option in places:
        new, old = (_at(config, place) for config in (now.config, done.config))
        if option in old:
            value = new.get(option)
            found.append((f"{'.'.join((*place, option))}={as_typed(value)}", value, old[option]))
    return found


def _at(config: Mapping[str, Any], place: tuple[str, ...]) -> Mapping[str, Any]:
    within: Any = config.get(place[0], {}) if place else config
    return within if isinstance(within, Mapping) else {}
