"""Modules of this program under the names that they had before they moved, for code of one's own that imports them."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

PACKAGE = "ode_runner"
ROOT = Path(__file__).resolve().parents[1]
RENAMED = {  # the others are in a folder, under the name that they had
    "field_observer": "fields.observer",
    "figures": "plots.figure_types",
    "path_field": "paths.denoising_field",
    "quoting": "errors",
    "series": "controls.series",
}


def find() -> None:
    """From now on, an import of such a name gives the module, with a DeprecationWarning."""
    sys.meta_path.append(MovedModules())


class MovedModules(MetaPathFinder):
    """Finds a module of this package that is nowhere under the name asked for; Python asks it last."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How to load it, or None if none of this package had that name."""
        del path, target
        now = present_name(fullname)
        return None if now is None else ModuleSpec(fullname, _Present(now))


class _Present(Loader):
    """Loads a module by its present name: there is one module, and one of each of its classes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f"{spec.name} is {self._name} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # which Python has replaced by that of the old name


def present_name(fullname: str) -> str | None:
    """The present name of a module of this package that had the name `fullname` once; None if there is no such one."""
    if not fullname.startswith(f"{PACKAGE}."):
        return None
    *folder, name = fullname.split(".")[1:]
    if len(folder) > 1:
        return None
    if not folder and name in RENAMED:
        return f"{PACKAGE}.{RENAMED[name]}"
    found = list(ROOT.joinpath(*folder).glob(f"*/{name}.py"))
    return ".".join((PACKAGE, *found[0].relative_to(ROOT).with_suffix("").parts)) if len(found) == 1 else None
