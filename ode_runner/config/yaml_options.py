"""Refuses keys without effect in a user's yaml files: Hydra accepts any key that a yaml adds."""

import re

from omegaconf import DictConfig, OmegaConf

from ode_runner.config.help import GROUPS, conf_dir, did_you_mean
from ode_runner.config.hints import foreign_hint
from ode_runner.errors import RefusedInput, as_typed

PRESETS = ("experiment", "grid", "search")  # groups that set options of other groups, and have none of their own


def check_yaml_options(cfg: DictConfig) -> None:
    """Check the groups of a configuration, and that each of its other keys is read.

    Raises:
        RefusedInput: a yaml sets an option that nothing reads, or sets a choice as if it were an option.
    """
    for group in GROUPS:
        node = OmegaConf.select(cfg, group)
        if group in PRESETS and isinstance(node, DictConfig) and node:
            raise RefusedInput(
                f"the yaml of this {group} sets {group}.{min(map(str, node))}, which nothing reads. Begin it with the "
                "line '# @package _global_'."
            )
        if group not in PRESETS and not isinstance(node, DictConfig):
            choice = "none" if node is None and (conf_dir() / group / "none.yaml").is_file() else as_typed(node)
            raise RefusedInput(
                f"{group}: {as_typed(node)} stands in a yaml as an option, and is a choice. Write '- override "
                f"/{group}: {choice}' among the yaml's defaults."
            )
    _check_read(cfg)


def _check_read(cfg: DictConfig) -> None:
    """Raises RefusedInput for a key that neither the program nor another option reads."""
    own = re.findall(r"^(\w+):", (conf_dir() / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    for key in (str(key) for key in cfg if key not in (*own, *GROUPS)):
        if not re.search(rf"\$\{{\.*{re.escape(key)}\b", OmegaConf.to_yaml(cfg)):
            hint = did_you_mean(key, [*own, *GROUPS], closeness=0.75) or foreign_hint(key)
            raise RefusedInput(f"a yaml sets '{key}', which nothing reads.{hint}")
