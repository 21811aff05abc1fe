"""The values of an option with a closed set, read from its class's source, so that completion imports nothing."""

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
BOOLEANS = ("true", "false")


def values_of(target: str, option: str, *, folders: Sequence[Path] = ()) -> list[str]:
    """The values as they are typed; empty if the option takes any number or text.

    Args:
        target: the full name of the class.
        option: an argument of its constructor, or of one of its bases'.
        folders: the folders of the user's own modules, besides this package.
    """
    module, _, name = target.rpartition(".")
    found = _class(module, name, folders)
    if found is None:
        return []
    module, definition = found
    annotation = _annotation(definition, option)
    if annotation is not None:
        return list(_values(annotation, module, folders))
    for base in definition.bases:
        if isinstance(base, ast.Name):
            values = values_of(_whole_name(module, base.id, folders), option, folders=folders)
            if values:
                return values
    return []


def _annotation(definition: ast.ClassDef, option: str) -> ast.expr | None:
    """The annotation of an argument of the constructor, or of a field of a dataclass; None if there is none."""
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.target.id == option:
                return statement.annotation
        elif isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            for argument in (*statement.args.args, *statement.args.kwonlyargs):
                if argument.arg == option:
                    return argument.annotation
    return None


def _values(annotation: ast.expr, module: str, folders: Sequence[Path]) -> Iterator[str]:
    """The values of `bool`, `Literal[...]`, an alias of one of them, or one of them `| None`."""
    match annotation:
        case ast.Name(id="bool"):
            yield from BOOLEANS
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=elements)):
            yield from (str(one.value) for one in elements if isinstance(one, ast.Constant))
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Constant(value=value)):
            yield str(value)
        case ast.BinOp(left=left, right=ast.Constant(value=None)):
            values = list(_values(left, module, folders))
            yield from [*values, "null"] if values else ()
        case ast.Name(id=name):
            place, _, own = _whole_name(module, name, folders).rpartition(".")
            for statement in _statements(place, tuple(folders)):
                if isinstance(statement, ast.Assign) and _names(statement) == [own]:
                    yield from _values(statement.value, place, folders)


def _names(assignment: ast.Assign) -> list[str]:
    return [target.id for target in assignment.targets if isinstance(target, ast.Name)]


def _class(module: str, name: str, folders: Sequence[Path]) -> tuple[str, ast.ClassDef] | None:
    """The definition of a class, and its module; None if it is not found."""
    for statement in _statements(module, tuple(folders)):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return module, statement
    return None


def _whole_name(module: str, name: str, folders: Sequence[Path]) -> str:
    """The full name of what `name` means in a module: imported there, or defined there."""
    for statement in _statements(module, tuple(folders)):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return f"{statement.module}.{alias.name}"
    return f"{module}.{name}"


@cache
def _statements(module: str, folders: tuple[Path, ...]) -> list[ast.stmt]:
    """The statements of a module; empty if there is no such file."""
    for folder in (PACKAGE.parent, *folders):
        path = folder / f"{module.replace('.', '/')}.py"
        if path.is_file():
            try:
                return ast.parse(path.read_text(encoding="utf-8")).body
            except (SyntaxError, ValueError, OSError):  # a user's module that is being edited
                return []
    return []
