"""Lets the user's own code import modules of this program under the names that they had before they moved."""

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
RENAMED = {  # all others have kept their name and only moved into a folder
    "field_observer": "fields.observer",
    "figures": "plots.figure_types",
    "path_field": "paths.denoising_field",
    "quoting": "errors",
    "series": "controls.series",
}


def find() -> None:
    """From now on, importing an old name gives the module, with a DeprecationWarning."""
    sys.meta_path.append(MovedModules())


class MovedModules(MetaPathFinder):
    """Finds moved modules of this package; it is the last finder, which Python asks only if the others find nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the moved module; None if no module of this package had that name."""
        del path, target
        now = present_name(fullname)
        return None if now is None else ModuleSpec(fullname, _Present(now))


class _Present(Loader):
    """Loads a module by its present name, so that the module and its classes exist only once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f"{spec.name} is {self._name} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # Python has replaced it by the spec of the old name


def present_name(fullname: str) -> str | None:
    """The present name of the module of this package that was once named `fullname`; None if there is no such one."""
    if not fullname.startswith(f"{PACKAGE}."):
        return None
    *folder, name = fullname.split(".")[1:]
    if len(folder) > 1:
        return None
    if not folder and name in RENAMED:
        return f"{PACKAGE}.{RENAMED[name]}"
    found = list(ROOT.joinpath(*folder).glob(f"*/{name}.py"))
    return ".".join((PACKAGE, *found[0].relative_to(ROOT).with_suffix("").parts)) if len(found) == 1 else None
