"""Every choice of a config group, the user's own among them."""

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from ode_runner.config.help import conf_dir


def every_choice(cfg: DictConfig, group: str) -> dict[str, DictConfig]:
    """Copies of a job's configuration, one for each value that could be typed for `group`, with that choice's defaults.

    What was typed for the job's own choice (`gradient.rtol=1e-6`) is not carried over to others.
    """
    places = [word for word in HydraConfig.get().overrides.hydra if word.startswith("hydra.searchpath=")]
    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options(group, config_name="config", overrides=places)
    return {name: _with(cfg, group, compose(overrides=[f"+{group}={name}", *places])) for name in names}


def built_in(cfg: DictConfig, group: str, name: str) -> DictConfig:
    """A copy of a configuration with another of the built-in choices that need no defaults list."""
    return _with(cfg, group, OmegaConf.create({group: OmegaConf.load(conf_dir() / group / f"{name}.yaml")}))


def _with(cfg: DictConfig, group: str, chosen: DictConfig) -> DictConfig:
    """`cfg` with its `group` replaced; what the new one refers to is looked up in `cfg`."""
    other = cfg.copy()
    with open_dict(other):
        other[group] = OmegaConf.to_container(chosen[group])
    return other
