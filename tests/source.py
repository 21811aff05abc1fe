"""The package's modules as they are written, each parsed once for all who ask about it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

INNER = ("body", "orelse", "finalbody", "handlers", "cases")  # where statements have others within them


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a module, within functions and for type checkers, too."""
    return [node for node in _statements(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All of them, but no expressions, which are twenty times as many and import nothing."""
    for name in INNER:
        for inner in getattr(node, name, ()):
            yield inner
            yield from _statements(inner)
