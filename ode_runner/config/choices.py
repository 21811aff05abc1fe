"""Every choice of a config group, the user's own among them."""

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from ode_runner.config.help import conf_dir


def every_choice(cfg: DictConfig, group: str) -> dict[str, DictConfig]:
    """Copies of a job's configuration by choice, one for each choice of `group`, with that choice's defaults.

    What was typed for the job's own choice (`gradient.rtol=1e-6`) is not carried over to others.
    """
    search_path = [word for word in HydraConfig.get().overrides.hydra if word.startswith("hydra.searchpath=")]
    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options(group, config_name="config", overrides=search_path)
    return {name: _with(cfg, group, compose(overrides=[f"+{group}={name}", *search_path])) for name in names}


def built_in(cfg: DictConfig, group: str, name: str) -> DictConfig:
    """A copy of `cfg` with the built-in choice `name` for `group`; its yaml must have no defaults list."""
    return _with(cfg, group, OmegaConf.create({group: OmegaConf.load(conf_dir() / group / f"{name}.yaml")}))


def _with(cfg: DictConfig, group: str, chosen: DictConfig) -> DictConfig:
    """A copy of `cfg` whose `group` is that of `chosen`; interpolations in it are resolved in the copy."""
    other = cfg.copy()
    with open_dict(other):
        other[group] = OmegaConf.to_container(chosen[group])
    return other
