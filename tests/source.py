"""Syntax trees of the package's modules, each parsed once for all tests."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

INNER = ("body", "orelse", "finalbody", "handlers", "cases")  # attributes that contain statements


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a module, including those in functions and for type checkers."""
    return [node for node in _statements(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements in a node, without expressions, which are twenty times as many and import nothing."""
    for name in INNER:
        for inner in getattr(node, name, ()):
            yield inner
            yield from _statements(inner)
