"""Caches within Hydra that halve the time of composing a configuration. The result is the same."""

import copy
import dataclasses
import inspect
import pickle
import pkgutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.default_element import GroupDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, flag_override

from ode_runner.config.yaml_faults import with_position

_composed: dict[tuple[object, ...], bytes] = {}
_loaded: dict[tuple[object, ...], bytes] = {}
_begun: dict[tuple[object, ...], bytes] = {}
_merged: dict[tuple[object, ...], bytes] = {}
MOST_MERGED = 100  # merged configurations that are cached, of 60 kB each

LOADER = "hydra._internal.config_loader_impl:ConfigLoaderImpl"
REPOSITORY = "hydra._internal.config_repository:ConfigRepository"
DEFAULTS = "hydra._internal.defaults_list"
DEFAULT = "hydra.core.default_element:InputDefault"
METADATA = "omegaconf.base:Metadata"

SIGNATURES = {  # parameter names of the private functions that are replaced or called here
    f"{LOADER}.load_configuration": (
        *("self", "config_name", "overrides", "run_mode"),
        *("from_shell", "validate_sweep_overrides"),
    ),
    f"{LOADER}.get_search_path": ("self",),
    f"{LOADER}._compose_config_from_defaults_list": ("self", "defaults", "repo"),
    f"{LOADER}._load_single_config": ("self", "default", "repo"),
    f"{REPOSITORY}.load_config": ("self", "config_path"),
    f"{REPOSITORY}._find_object_source": ("self", "config_path", "object_type"),
    f"{DEFAULTS}:_create_interpolation_map": ("overrides", "defaults_list", "self_added"),
    f"{DEFAULT}.is_self": ("self",),
    f"{DEFAULT}.is_interpolation": ("self",),
    "hydra.version:_get_version": ("ver",),
    "omegaconf.base:parse": ("value", "parser_rule", "lexer_mode"),
}
FIELDS = ("ref_type", "object_type", "optional", "key", "flags", "flags_root", "resolver_cache")  # of Metadata


class Replacement(NamedTuple):
    """A faster replacement of an attribute of Hydra or OmegaConf."""

    owner: str  # a class or module, as `pkgutil.resolve_name` takes it
    name: str
    quicker: Callable[[Any], Any]  # makes the replacement from the attribute, or from None if there is none
    known: Callable[[], bool]  # whether the installed version has the private functions expected here


@contextmanager
def less_composing() -> Iterator[None]:
    """Inside, Hydra composes no configuration twice, and reads each yaml once as long as its file does not change.

    A sweep composes each cell twice, to inspect it and to run it, from some thirty files that are nearly the same for
    all cells. With the cache, a cell runs exactly as it was inspected. If the installed Hydra or OmegaConf has other
    private functions than those known here, they are not replaced.
    """
    before = list[tuple[Any, str, Any]]()
    for owner, name, quicker, known in _replacements():
        if known():
            place = pkgutil.resolve_name(owner)
            before.append((place, name, vars(place).get(name)))
            setattr(place, name, quicker(before[-1][2]))
    try:
        yield
    finally:
        for place, name, slower in before:
            delattr(place, name) if slower is None else setattr(place, name, slower)
        _composed.clear()


def _replacements() -> list[Replacement]:
    composing = (f"{LOADER}.load_configuration", f"{LOADER}.get_search_path")
    merging = (f"{LOADER}._compose_config_from_defaults_list", f"{LOADER}._load_single_config")
    loading = (f"{REPOSITORY}.load_config", f"{REPOSITORY}._find_object_source")
    choosing = (f"{DEFAULTS}:_create_interpolation_map", f"{DEFAULT}.is_self", f"{DEFAULT}.is_interpolation")
    return [
        Replacement(LOADER, "load_configuration", _composed_once, lambda: all(map(_is_known, composing))),
        Replacement(LOADER, merging[0].rpartition(".")[2], _merged_once, lambda: all(map(_is_known, merging))),
        Replacement(REPOSITORY, "load_config", _loaded_once, lambda: all(map(_is_known, loading))),
        Replacement(DEFAULTS, "_create_interpolation_map", _where_asked, lambda: all(map(_is_known, choosing))),
        Replacement(METADATA, "__deepcopy__", lambda _: _copied, _knows_metadata),
        Replacement("hydra.version", "_get_version", _parsed_once, lambda: _is_known("hydra.version:_get_version")),
        Replacement("omegaconf.base", "parse", _parsed_once, lambda: _is_known("omegaconf.base:parse")),
    ]


def _is_known(name: str) -> bool:
    """Whether there is a function of this name, not inherited, with the parameters in SIGNATURES."""
    owner, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        parameters = inspect.signature(vars(pkgutil.resolve_name(owner))[attribute]).parameters
    except (ImportError, AttributeError, KeyError, TypeError, ValueError):
        return False
    return tuple(parameters) == SIGNATURES[name]


def _knows_metadata() -> bool:
    """Whether a node's Metadata has exactly the fields known here, and no `__deepcopy__` of its own."""
    try:
        metadata = pkgutil.resolve_name(METADATA)
        found = tuple(field.name for field in dataclasses.fields(metadata))
    except (ImportError, AttributeError, TypeError):
        return False
    return found == FIELDS and "__deepcopy__" not in vars(metadata)


@cache
def _composed_once(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Caches `ConfigLoaderImpl.load_configuration`. An entry is dropped at its first use: none is needed thrice."""

    def load_configuration(loader: Any, config_name: str | None, overrides: list[str], **asked: Any) -> DictConfig:
        key = (str(loader.get_search_path()), Path.cwd(), config_name, *overrides, *asked.items())
        if (kept := _composed.pop(key, None)) is not None:
            found: DictConfig = pickle.loads(kept)
            return found
        cfg = compose(loader, config_name, overrides, **asked)
        _composed[key] = pickle.dumps(cfg)
        return cfg

    return load_configuration


@cache
def _merged_once(merge: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Caches `_compose_config_from_defaults_list`, before the overrides that are typed, which may differ by cell."""

    def merge_defaults(loader: Any, defaults: Sequence[Any], repo: Any) -> DictConfig:
        key = tuple((one.package, *_read_from(one.config_path, repo.get_sources())) for one in defaults)
        if (kept := _merged.get(key)) is not None:
            found: DictConfig = pickle.loads(kept)
            return found
        cfg = _merged_after_hydras(partial(merge, loader, repo=repo), defaults, key)
        _merged[key] = pickle.dumps(cfg)
        if len(_merged) > MOST_MERGED:
            del _merged[next(iter(_merged))]
        return cfg

    return merge_defaults


def _merged_after_hydras(
    merge: Callable[[Sequence[Any]], DictConfig], defaults: Sequence[Any], places: Sequence[tuple[object, ...]]
) -> DictConfig:
    """Merges in two parts: Hydra's own part comes first and is the same in every cell, so that it is cached."""
    own = len(list(takewhile(lambda default: default.config_path.startswith("hydra/"), defaults)))
    key = tuple(places[:own])
    if key not in _begun:
        _begun[key] = pickle.dumps(merge(defaults[:own]))
    cfg: DictConfig = pickle.loads(_begun[key])
    with flag_override(cfg, "no_deepcopy_set_nodes", True):
        cfg.merge_with(merge(defaults[own:]))  # one merge, since each walks through the whole configuration
    return cfg


@cache
def _loaded_once(load: Callable[[Any, str], ConfigResult | None]) -> Callable[[Any, str], ConfigResult | None]:
    """Caches `ConfigRepository.load_config`, as pickles: Hydra writes overrides into what it has loaded."""

    def load_config(repository: Any, config_path: str) -> ConfigResult | None:
        source = repository._find_object_source(config_path, ObjectType.CONFIG)
        if source is None:
            return None
        key = _read_from(config_path, [source])
        if key not in _loaded:
            with with_position(f"{source.path}/{config_path.removesuffix('.yaml')}.yaml"):
                _loaded[key] = pickle.dumps(load(repository, config_path))
        found: ConfigResult = pickle.loads(_loaded[key])
        return found

    return load_config


def _read_from(config_path: str, sources: Sequence[ConfigSource]) -> tuple[object, ...]:
    """A key for the first of `sources` that has the config; for a file, its state is part of the key."""
    source = next(one for one in sources if one.is_config(config_path))
    place = (source.scheme(), source.provider, source.path, config_path)
    if source.scheme() != "file":
        return place
    return *place, *state_of(Path(source.path) / f"{config_path.removesuffix('.yaml')}.yaml")


def state_of(file: Path) -> tuple[int, int, int]:
    """Modification time, size and inode: they change when the file is written."""
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


@cache
def _where_asked(choices_by_group: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Replaces `_create_interpolation_map`: the map is made only for defaults such as `${task}_${model}`."""
    nothing = OmegaConf.create()

    def interpolation_map(overrides: Any, defaults: Sequence[Any], self_added: bool) -> DictConfig:
        if not any(not default.is_self() and default.is_interpolation() for default in defaults):
            return nothing
        known = choices_by_group(overrides, [], self_added)
        known.defaults = [_place_of(one) for one in defaults if not (self_added and one.is_self())]  # set at once
        return known

    return interpolation_map


def _place_of(default: Any) -> Any:
    """The value of `${defaults.0}`, by which old yaml files refer to other choices."""
    if isinstance(default, GroupDefault):
        return {default.get_override_key(): default.value}
    return default.get_config_path()


@cache
def _parsed_once(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Caches the parsing of `${...}` in values, and of versions: every configuration has the same few."""
    return lru_cache(maxsize=1000)(parse)


def _copied(metadata: Any, memo: dict[int, Any]) -> Any:
    """Replaces deepcopy for a node's metadata: only its flags and its resolver cache are mutable."""
    new = copy.copy(metadata)
    new.flags = dict(metadata.flags or {})
    kept = metadata.resolver_cache
    new.resolver_cache = copy.deepcopy(kept, memo) if kept else defaultdict(dict)
    return new
