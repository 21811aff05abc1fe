"""Composing a configuration in half of Hydra's time, and to the same result."""

import copy
import pickle
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import omegaconf.base
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf.base import Metadata
from omegaconf.grammar_parser import parse

_compose = ConfigLoaderImpl.load_configuration
_load = ConfigRepository.load_config
_choices_by_group = defaults_list._create_interpolation_map
_composed: dict[tuple[object, ...], bytes] = {}
_loaded: dict[tuple[object, ...], bytes] = {}
_parse_once = lru_cache(maxsize=1000)(parse)  # of `${...}` in values, the same few in every configuration


@contextmanager
def less_composing() -> Iterator[None]:
    """Within it, Hydra composes nothing twice, and reads a yaml once, as long as its file stays as it is.

    A sweep asks for each of its cells twice, to inspect it and to run it, each from some thirty files, which are nearly
    the same for all cells. A cell is so run as it was inspected.
    """
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in _quicker()]
    for owner, name, quicker in _quicker():
        setattr(owner, name, quicker)
    try:
        yield
    finally:
        for owner, name, slower in before:
            delattr(owner, name) if slower is None else setattr(owner, name, slower)
        _composed.clear()


def _quicker() -> list[tuple[Any, str, Any]]:
    """What stands in the place of an attribute of Hydra's or OmegaConf's."""
    return [
        (ConfigLoaderImpl, "load_configuration", _compose_once),
        (ConfigRepository, "load_config", _load_once),
        (defaults_list, "_create_interpolation_map", _choices_where_asked),
        (Metadata, "__deepcopy__", _copied),
        (omegaconf.base, "parse", _parse_once),
    ]


def _compose_once(loader: ConfigLoaderImpl, config_name: str | None, overrides: list[str], **asked: Any) -> DictConfig:
    """In place of `ConfigLoaderImpl.load_configuration`; forgotten when it is asked for again: nobody asks thrice."""
    key = (str(loader.config_search_path), Path.cwd(), config_name, *overrides, *asked.items())
    if (kept := _composed.pop(key, None)) is not None:
        found: DictConfig = pickle.loads(kept)
        return found
    cfg = _compose(loader, config_name, overrides, **asked)
    _composed[key] = pickle.dumps(cfg)
    return cfg


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


def _copied(metadata: Metadata, memo: dict[int, Any]) -> Metadata:
    """In place of a general deepcopy: what changes in the metadata of a node are its flags and what resolvers kept."""
    new = copy.copy(metadata)
    new.flags = dict(metadata.flags or {})
    kept = metadata.resolver_cache
    new.resolver_cache = copy.deepcopy(kept, memo) if kept else defaultdict(dict)
    return new
