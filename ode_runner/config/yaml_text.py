"""Configurations as yaml text, as `OmegaConf.to_yaml` writes them, by a faster library."""

from typing import Any

import yaml
from omegaconf import OmegaConf

from ode_runner.errors import is_number

try:
    from yaml import CSafeDumper as SafeDumper  # libyaml's
except ImportError:  # PyYAML was built without it
    from yaml import SafeDumper


class _Dumper(SafeDumper):
    """Puts texts into quotes that OmegaConf would read as numbers, such as 1e-3, where yaml itself would not."""


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if is_number(text) else None)


_Dumper.add_representer(str, _represent_text)


def to_yaml(content: Any) -> str:
    """The text of a configuration, interpolations as they stand, or of lists and mappings that were made from one."""
    plain = OmegaConf.to_container(content, enum_to_str=True) if OmegaConf.is_config(content) else content
    return yaml.dump(plain, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
