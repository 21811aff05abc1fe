"""Every choice of a config group, the user's own among them."""

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
from ode_runner.config.yaml_faults import told_by_place
from ode_runner.errors import RefusedInput


def every_choice(cfg: DictConfig, group: str) -> dict[str, Callable[[], DictConfig]]:
    """What makes a copy of a job's configuration with another choice of `group` and its defaults, by choice.

    What was typed for the job's own choice (`gradient.rtol=1e-6`) is not carried over to others. A yaml of one's own
    that cannot be read is refused where its copy is made, and leaves the others as they are.
    """
    search_path = [word for word in HydraConfig.get().overrides.hydra if word.startswith("hydra.searchpath=")]
    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options(group, config_name="config", overrides=search_path)

    def with_choice(name: str) -> DictConfig:
        return _with(cfg, group, compose(overrides=[f"+{group}={name}", *search_path]))

    return {name: partial(with_choice, name) for name in names}


def with_other_choice(group: str, name: str) -> DictConfig | None:
    """The job's configuration, Hydra's own part included, as if `group=name` had been typed and no option of `group`.

    None outside a job, and in a sweep, which may refuse hundreds of cells: a configuration takes a tenth of a second.

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
    """The options that the yaml of `group=choice` names, as they stand there; none where there is no such file."""
    own = content_of(group, choice)
    found = own.get(group, own)
    return found if isinstance(found, dict) else {}


def content_of(group: str, choice: str) -> Mapping[str, Any]:
    """What the yaml of `group=choice` holds, as it stands there; nothing where there is no such file."""
    for folder in (conf_dir(), *user_folders(sys.argv[1:])):
        path = folder / group / f"{choice}.yaml"
        if path.is_file():
            return _read_once(path, *state_of(path))
    return {}


@lru_cache(maxsize=1000)
def _read_once(path: Path, *_: int) -> Mapping[str, Any]:
    """What a yaml holds, as long as its file stays as it is: every cell of a sweep asks for the same ones."""
    with told_by_place(str(path)):
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return {str(name): value for name, value in content.items()} if isinstance(content, dict) else {}


def _with(cfg: DictConfig, group: str, chosen: DictConfig) -> DictConfig:
    """A copy of `cfg` whose `group` is that of `chosen`; interpolations in it are resolved in the copy."""
    other = cfg.copy()
    with open_dict(other):
        other[group] = OmegaConf.to_container(chosen[group])
    return other
