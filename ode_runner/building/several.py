"""Groups that allow several choices at once. The options of each choice are under a key of its name."""

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ode_runner.errors import RefusedInput, as_typed


def chosen(cfg: DictConfig, group: str) -> dict[str, DictConfig]:
    """The choices of a group by name, each as a configuration that holds its options under `<group>.<name>`.

    Raises:
        RefusedInput: a yaml does not put its options under a name, or has a value in the place of the options.
    """
    groups = cast(dict[str, Any], OmegaConf.to_container(cfg.get(group) or OmegaConf.create(), resolve=True))
    for name, options in groups.items():
        if not isinstance(options, dict) and "_target_" not in groups:
            typed = f"{group}.{name}={as_typed(options)}"
            raise RefusedInput(f"{typed} is typed in place of its options. Type {group}.{name}.OPTION=VALUE.")
    if not all(isinstance(options, dict) and "_target_" in options for options in groups.values()):
        raise RefusedInput(
            f"a yaml in conf/{group} holds a class and options of its own name: its first line is "
            f"'# @package {group}.NAME', so that several can be chosen."
        )
    return {name: OmegaConf.create({f"{group}.{name}": options}) for name, options in sorted(groups.items())}
