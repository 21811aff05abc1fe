"""The user's own code that a run uses: which files, their hashes, and copies in the run folder.

The copies are only data. Nothing is imported from them.
"""

import ast
import hashlib
import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ode_runner.recording.regular_file import read_regular

FOLDER = "code"  # in a run folder
CHOICES = "conf"  # in that folder, for the user's own yaml files
INSTALLED = ("site-packages", "dist-packages")
PROGRAM = Path(__file__).resolve().parents[1]


def named_classes(config: Any) -> Iterator[str]:
    """Every class that a configuration, or a part of one, names."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key == "_target_":
                yield str(value)
            yield from named_classes(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from named_classes(value)


def own_modules(config: Mapping[str, Any]) -> dict[str, Path]:
    """The user's own modules that define a configuration's classes, and those that these import, by place.

    Modules of this program and of installed packages do not count. Places are such as `my_package/layers.py`.
    """
    waiting = [name for target in named_classes(config) for name in _parents(target)]
    files: dict[str, Path] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if (file := _own_file(name)) is not None:
            files[_place(name, file)] = file
            waiting += _imported(name, file)
    return dict(sorted(files.items()))


def keep(folder: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Copy the user's files into a run folder, replacing earlier copies; returns the hash of each, by place."""
    kept = folder / FOLDER
    shutil.rmtree(kept, ignore_errors=True) if not kept.is_symlink() else kept.unlink()
    for place, file in files.items():
        (kept / place).parent.mkdir(parents=True, exist_ok=True)
        (kept / place).write_bytes(file.read_bytes())
    return hashes(files)


def hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file, by place; "" if it cannot be read."""
    found = dict.fromkeys(files, "")
    for place, file in files.items():
        with suppress(OSError):
            found[place] = hashlib.sha256(read_regular(file)).hexdigest()
    return found


def changed(config: Mapping[str, Any], recorded: Mapping[str, str]) -> list[str]:
    """The user's modules that differ from those recorded, by place."""
    return [place for place, value in hashes(own_modules(config)).items() if recorded.get(place, value) != value]


def sentence(config: Mapping[str, Any], recorded: Mapping[str, str]) -> str:
    """A sentence on the user's modules that were imported, and which of them differ from those recorded; or ""."""
    imported = ", ".join(own_modules(config))
    if not imported:
        return ""
    others = ", ".join(changed(config, recorded))
    return f"imported: {imported}; changed since the run was made: {others}" if others else f"imported: {imported}"


def _parents(dotted: str) -> list[str]:
    """The modules that may define a dotted name: a and a.b for a.b.C."""
    parts = dotted.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _own_file(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None and "." not in name and name not in sys.builtin_module_names:  # finding a.b imports a
        with suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            file = spec.origin if spec is not None else None
    path = Path(file).resolve() if file else None
    if path is None or path.suffix != ".py" or not path.is_file() or set(INSTALLED) & set(path.parts):
        return None
    return None if any(place in path.parents for place in (PROGRAM, *_standard_library())) else path


@cache
def _standard_library() -> list[Path]:
    return [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib")]


def _place(name: str, file: Path) -> str:
    parts = name.split(".")
    return "/".join([*parts, "__init__.py"] if file.name == "__init__.py" else [*parts[:-1], f"{parts[-1]}.py"])


def _imported(name: str, file: Path) -> list[str]:
    """The modules that a module's code imports, anywhere in it; an imported name may itself be a module."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return [one for dotted in found for one in (*_parents(dotted), dotted)]
