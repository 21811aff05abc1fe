"""The package's folders and the modules in its root: what each is, and a drawing (SVG) of who imports whom.

In the drawing each arrow leads from an importer down to what it imports. Arrows that follow from others are left out.
Folders that import each other stand in one box. Sums are exact, for Python's own differ by its version.
"""

import ast
from collections.abc import Hashable
from functools import cache
from math import fsum
from pathlib import Path
from typing import TypeVar

import ode_runner
from tests import source

PACKAGE = Path(ode_runner.__file__).parent
ROW, GAP, HEIGHT, CHARACTER = 60, 18, 26, 7.4  # pixels: rows apart, boxes apart, box height, width of a letter
STYLE = (
    "text{font:12px ui-monospace,monospace;text-anchor:middle;fill:#1a1a1a}"
    "rect{fill:#eef2fb;stroke:#4a62a8}rect.module{fill:#fff;stroke:#888}path.edge{fill:none;stroke:#8a94ad}"
)
MAP = {  # the way through the package: what a reader looks for, and where it is
    "From a command line to objects": ("cli", "launch", "config/", "build", "building/", "compatibility"),
    "Choices: one module for each": (
        *("tasks/", "models/", "networks/", "solvers/", "gradients/"),
        *("objectives/", "regularizers/", "paths/", "controls/", "loggers/"),
    ),
    "An equation: its right-hand side, noise, events and inputs": (
        *("field", "fields/", "integral", "noise/", "event", "encoding", "problem"),
    ),
    "Its solution": ("integrator", "compiling/"),
    "A run": ("experiment/", "training/", "distributed/", "recording/", "sweeps/"),
    "Commands and reports on completed runs": (
        "commands/",
        "analysis/",
        "hypersolving/",
        "exporting/",
        "plots/",
        "report/",
        "recipes/",
        "api/",
    ),
    "Types and helpers used everywhere": ("types", "batch", "errors", "devices/"),
}
Node = tuple[str, ...]
T = TypeVar("T", bound=Hashable)


def folders() -> str:
    """Markdown: the first line of every root module's and every folder's docstring, in the order of `MAP`."""
    lines = ["| module or folder | what |", "| --- | --- |"]
    for heading, places in MAP.items():
        lines.append(f"| **{heading}** | |")
        for place in places:
            for file in _files(place):
                name = file.parent if file.name == "__init__.py" else file.with_suffix("")
                shown = f"{name.relative_to(PACKAGE).as_posix()}{'/' * (name == file.parent)}"
                lines.append(f"| `{shown}` | {_first_line(file)} |")
    return "\n".join(lines)


def _files(place: str) -> list[Path]:
    """Where it is said what a place of `MAP` is, and each folder within it."""
    if not place.endswith("/"):
        return [PACKAGE / f"{place}.py"]
    return [PACKAGE / place / "__init__.py", *sorted(PACKAGE.glob(f"{place}*/__init__.py"))]


def drawing() -> str:
    """The SVG."""
    edges = reduced(groups())
    places = _places(_rows(edges))
    arrows = [(*places[node], *places[other]) for node in sorted(edges) for other in sorted(edges[node])]
    right = max([x + _width(node) / 2 for node, (x, _) in places.items()] + [_rightmost(*arrow) for arrow in arrows])
    bottom = max(y for _, y in places.values()) + HEIGHT
    size = f'width="{right + GAP:.0f}" height="{bottom + GAP:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{STYLE}</style>'
    marker = '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    tip = f'<defs>{marker}<path d="M0 0L8 4L0 8z" fill="#8a94ad"/></marker></defs>'
    boxes = [_box(node, *places[node]) for node in sorted(edges)]
    return "\n".join([head, tip, *(_arrow(*arrow) for arrow in arrows), *boxes, "</svg>", ""])


def _places(rows: list[list[Node]]) -> dict[Node, tuple[float, float]]:
    """Middle and top of each box, in pixels: the boxes of a row evenly over the width of the widest row."""
    full = max(fsum(_width(node) + GAP for node in row) for row in rows)
    places = {}
    for number, row in enumerate(rows):
        space = (full - fsum(_width(node) for node in row)) / (len(row) + 1)
        left = space
        for node in row:
            places[node] = (left + _width(node) / 2, float(GAP + ROW * number))
            left += _width(node) + space
    return places


def _first_line(file: Path) -> str:
    docstring = ast.get_docstring(source.tree(file)) or ""
    return docstring.partition("\n")[0].replace("|", "\\|")


@cache
def imports() -> dict[str, set[str]]:
    """By folder (`solvers/`) or module of the root (`cli`): what it imports of the others, anywhere in its code."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name.startswith("__") and path.parent == PACKAGE:
            continue
        of = found.setdefault(_place(path.relative_to(PACKAGE).with_suffix("").parts), set())
        for node in source.imports(path):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            of |= {_place(tuple(name.split(".")[1:])) for name in names if name.startswith("ode_runner.")}
    return {place: others - {place} for place, others in found.items()}


def _place(parts: tuple[str, ...]) -> str:
    return f"{parts[0]}/" if (PACKAGE / parts[0]).is_dir() else parts[0]


def groups() -> dict[Node, set[Node]]:
    """The same, with places that reach each other as one node: the result has no cycle."""
    direct = imports()
    reached = {place: _reached(place, direct) for place in direct}
    node = {
        place: tuple(sorted({place} | {other for other in reached[place] if place in reached[other]}))
        for place in direct
    }
    edges: dict[Node, set[Node]] = {own: set() for own in node.values()}
    for place, others in direct.items():
        edges[node[place]] |= {node[other] for other in others} - {node[place]}
    return edges


def reduced(edges: dict[Node, set[Node]]) -> dict[Node, set[Node]]:
    """Without the arrows that follow from others."""
    return {
        node: {
            other for other in others if not any(other in _reached(third, edges) for third in others if third != other)
        }
        for node, others in edges.items()
    }


def _reached(start: T, edges: dict[T, set[T]]) -> set[T]:
    seen: set[T] = set()
    waiting = [start]
    while waiting:
        new = edges[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def _rows(edges: dict[Node, set[Node]]) -> list[list[Node]]:
    """Rows from importers down to imported; each row in the order of what stands above it, to cross few arrows."""

    @cache
    def depth(node: Node) -> int:
        return max((depth(other) + 1 for other in edges[node]), default=0)

    deepest = max(map(depth, edges))
    rows = [sorted(node for node in edges if depth(node) == deepest - number) for number in range(deepest + 1)]
    place: dict[Node, float] = {}
    for row in rows:
        above = {node: [place[other] for other in place if node in edges[other]] for node in row}
        row.sort(key=lambda node: (fsum(above[node]) / len(above[node]) if above[node] else 0.5, node))
        place |= {node: (number + 1) / (len(row) + 1) for number, node in enumerate(row)}
    return rows


def _label(node: Node) -> str:
    return " + ".join(node)


def _width(node: Node) -> float:
    return CHARACTER * len(_label(node)) + 14


def _box(node: Node, x: float, y: float) -> str:
    kind, width = "" if _label(node).endswith("/") else ' class="module"', _width(node)
    rectangle = f'<rect{kind} x="{x - width / 2:.1f}" y="{y:.0f}" width="{width:.1f}" height="{HEIGHT}" rx="4"/>'
    return f'{rectangle}<text x="{x:.1f}" y="{y + 17:.0f}">{_label(node)}</text>'


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """From the lower side of a box to the upper side of another; past the boxes between them on the right."""
    start, aside = y + HEIGHT, _aside(y, to_y)
    middle = (start + to_y) / 2
    points = f"{x + aside:.1f} {middle:.1f} {to_x + aside:.1f} {middle:.1f} {to_x:.1f} {to_y:.0f}"
    return f'<path class="edge" marker-end="url(#tip)" d="M{x:.1f} {start:.0f}C{points}"/>'


def _aside(y: float, to_y: float) -> float:
    return 45 * ((to_y - y) / ROW - 1)


def _rightmost(x: float, y: float, to_x: float, to_y: float) -> float:
    """How far to the right an arrow reaches, at most: a cubic keeps to three quarters of its control points' way."""
    return max(x, to_x) + 0.75 * _aside(y, to_y)
