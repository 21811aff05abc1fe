"""Colours and markers for many configurations in one picture: by groups of values, not one for each configuration."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ode_runner.plots.comparison import MARKERS, Look
from ode_runner.plots.style import CLASSES, ORDERED
from ode_runner.recording.record import AXES, UNUSED
from ode_runner.report.rows import Row, plain

NONE = "none"
GREY = len(CLASSES) - 1  # for what has no colour of its own


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """The values of one column, in a few groups."""

    name: str
    groups: Sequence[str]  # the values of each group, in words
    of: Sequence[int]  # the group of each row
    ordered: bool  # numbers, or ranges of numbers, from low to high

    @property
    def labels(self) -> list[str]:
        short = self.name.rpartition(".")[2]
        return [group if self.name in AXES and group != NONE else f"{short} {group}" for group in self.groups]


@dataclass(frozen=True, kw_only=True)
class VisualEncoding:
    """How every row is drawn, and the legend."""

    looks: dict[str, Look]
    legend: list[Look]
    caption: str


def encode(rows: Sequence[Row]) -> VisualEncoding:
    """The first column with few values sets the colours, a second one the markers; other options are not shown."""
    varying = [name for name in rows[0].columns if len({repr(row.columns[name]) for row in rows}) > 1]
    few = [name for name in varying if len({repr(row.columns[name]) for row in rows}) <= len(ORDERED)]
    by_colour, *others = [*few, *(name for name in varying if name not in few)]
    colour = _grouped(rows, by_colour, most=len(ORDERED))
    shape = _grouped(rows, others[0], most=len(MARKERS)) if others else None
    looks = {
        row.label: Look(label=row.label, colour=group, shape=shape.of[i] if shape else 0, ordered=colour.ordered)
        for i, (row, group) in enumerate(zip(rows, colour.of, strict=True))
    }
    legend = [Look(label=label, colour=i, shape=0, ordered=colour.ordered) for i, label in enumerate(colour.labels)]
    caption = f"Colour: {by_colour}"
    if shape is not None:
        legend += [Look(label=label, colour=GREY, shape=i) for i, label in enumerate(shape.labels)]
        caption += f"; marker: {shape.name}"
    if rest := [name for name in varying if name not in (by_colour, shape.name if shape else "")]:
        caption += f"; not distinguished: {', '.join(rest)}"
    return VisualEncoding(looks=looks, legend=legend, caption=f"{caption}.")


def _grouped(rows: Sequence[Row], name: str, *, most: int) -> Grouping:
    values = [row.columns[name] for row in rows]
    distinct = list({repr(value): value for value in values}.values())
    numbers = sorted(value for value in distinct if _is_number(value))
    if len(distinct) > most and numbers:
        return _in_ranges(name, values, numbers, most=most - (len(numbers) < len(distinct)))
    ordered = len(numbers) == len(distinct)
    if ordered:
        distinct = numbers
    keys: list[Hashable] = [repr(value) for value in distinct]
    words = [_said(value) for value in distinct]
    if len(distinct) > most:
        counts = Counter(repr(value) for value in values)
        keys = [key for key, _ in counts.most_common(most - 1)]
        words = [_said(value) for key in keys for value in distinct if repr(value) == key] + ["others"]
    of = [keys.index(repr(value)) if repr(value) in keys else len(keys) for value in values]
    return Grouping(name=name, groups=words, of=of, ordered=ordered)


def _in_ranges(name: str, values: Sequence[Any], numbers: Sequence[float], *, most: int) -> Grouping:
    """Ranges with equally many different numbers, and a group for values that are not numbers."""
    place = {number: i * most // len(numbers) for i, number in enumerate(numbers)}
    members: list[list[float]] = [[number for number in numbers if place[number] == group] for group in range(most)]
    words = [
        _said(inside[0]) if len(inside) == 1 else f"{_said(inside[0])} to {_said(inside[-1])}" for inside in members
    ]
    of = [place[value] if _is_number(value) else most for value in values]
    if others := list(dict.fromkeys(_said(value) for value in values if not _is_number(value))):
        words.append(" or ".join(others) if len(others) < 3 else "otherwise")
    return Grouping(name=name, groups=words, of=of, ordered=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: Any) -> str:
    if value == UNUSED:
        return NONE
    return f"{value:.3g}" if isinstance(value, float) else plain(value)
