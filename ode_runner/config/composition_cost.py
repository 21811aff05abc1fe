"""Composing a configuration in half of Hydra's time, and to the same result."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra._internal import defaults_list
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

_load = ConfigRepository.load_config
_choices_by_group = defaults_list._create_interpolation_map
_loaded: dict[tuple[object, ...], bytes] = {}


@contextmanager
def less_composing() -> Iterator[None]:
    """Within it, Hydra reads a yaml once, as long as its file stays as it is, and makes no map that it does not read.

    A sweep composes each of its cells twice, each from some thirty files, which are nearly the same for all cells.
    """
    before = ConfigRepository.load_config, defaults_list._create_interpolation_map
    ConfigRepository.load_config = _load_once  # type: ignore[assignment, method-assign]
    defaults_list._create_interpolation_map = _choices_where_asked  # type: ignore[assignment]
    try:
        yield
    finally:
        ConfigRepository.load_config, defaults_list._create_interpolation_map = before  # type: ignore[method-assign]


def _load_once(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
    """In place of `ConfigRepository.load_config`; pickled, for Hydra writes overrides into what it has loaded."""
    source = repository._find_object_source(config_path, ObjectType.CONFIG)
    if source is None:
        return None
    key = (source.scheme(), source.provider, source.path, config_path, *_state_of_file(source, config_path))
    if key not in _loaded:
        _loaded[key] = pickle.dumps(_load(repository, config_path))
    found: ConfigResult = pickle.loads(_loaded[key])
    return found


def _state_of_file(source: ConfigSource, config_path: str) -> tuple[int, ...]:
    """What changes when a file is written; nothing of what lies in a package, or in Hydra's own store."""
    if source.scheme() != "file":
        return ()
    file = (Path(source.path) / f"{config_path.removesuffix('.yaml')}.yaml").stat()
    return file.st_mtime_ns, file.st_size, file.st_ino


def _choices_where_asked(
    overrides: defaults_list.Overrides, defaults: Sequence[InputDefault], self_added: bool
) -> DictConfig:
    """In place of `_create_interpolation_map`: the map is for defaults such as `${task}_${model}`, which are rare."""
    if any(not default.is_self() and default.is_interpolation() for default in defaults):
        return _choices_by_group(overrides, list(defaults), self_added)
    return OmegaConf.create()
