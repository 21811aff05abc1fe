"""Every choice of a config group, including the user's own."""

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ode_runner.config.composition_cost import less_composing, state_of
from ode_runner.config.help import conf_dir, user_folders
from ode_runner.config.yaml_faults import with_position
from ode_runner.errors import RefusedInput


def every_choice(cfg: DictConfig, group: str) -> dict[str, Callable[[], DictConfig]]:
    """For each choice of `group`, a function that copies a job's configuration with this choice and its defaults.

    Options that were typed for the job's own choice (`gradient.rtol=1e-6`) are not carried over to the others. If a
    yaml of the user cannot be read, only the function of that choice raises an error.
    """
    search_path = [word for word in HydraConfig.get().overrides.hydra if word.startswith("hydra.searchpath=")]
    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options(group, config_name="config", overrides=search_path)

    def with_choice(name: str) -> DictConfig:
        return _with(cfg, group, compose(overrides=[f"+{group}={name}", *search_path]))

    return {name: partial(with_choice, name) for name in names}


def with_other_choice(group: str, name: str) -> DictConfig | None:
    """The job's configuration, with Hydra's own part, as if `group=name` had been typed and no option of `group`.

    None outside a job. Also None in a sweep, which may refuse hundreds of cells: composing takes a tenth of a second.

    Raises:
        RefusedInput: the other words do not go with this choice.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode is RunMode.MULTIRUN:
        return None
    typed = HydraConfig.get().overrides
    words = [word for word in typed.task if word.lstrip("+~").partition("=")[0].partition(".")[0] != group]
    places = [word for word in typed.hydra if word.startswith("hydra.searchpath=")]
    begun = GlobalHydra.instance().is_initialized()
    with less_composing(), nullcontext() if begun else initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return compose("config", overrides=[*words, f"{group}={name}", *places], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise RefusedInput(f"{group}={name} does not go with the other words.") from error


def built_in(cfg: DictConfig, group: str, name: str) -> DictConfig:
    """A copy of `cfg` with the built-in choice `name` for `group`; its yaml must have no defaults list."""
    return _with(cfg, group, OmegaConf.create({group: OmegaConf.load(conf_dir() / group / f"{name}.yaml")}))


def default_options(group: str, choice: str) -> Mapping[str, Any]:
    """The options in the yaml of `group=choice`, unresolved; empty if there is no such file."""
    own = content_of(group, choice)
    found = own.get(group, own)
    return found if isinstance(found, dict) else {}


def content_of(group: str, choice: str) -> Mapping[str, Any]:
    """The content of the yaml of `group=choice`, unresolved; empty if there is no such file."""
    for folder in (conf_dir(), *user_folders(sys.argv[1:])):
        path = folder / group / f"{choice}.yaml"
        if path.is_file():
            return _read_once(path, *state_of(path))
    return {}


@lru_cache(maxsize=1000)
def _read_once(path: Path, *_: int) -> Mapping[str, Any]:
    """The content of a yaml, cached by the state of its file: every cell of a sweep asks for the same files."""
    with with_position(str(path)):
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return {str(name): value for name, value in content.items()} if isinstance(content, dict) else {}


def _with(cfg: DictConfig, group: str, chosen: DictConfig) -> DictConfig:
    """A copy of `cfg` with the `group` of `chosen`; its interpolations refer to the copy."""
    other = cfg.copy()
    with open_dict(other):
        other[group] = OmegaConf.to_container(chosen[group])
    return other
