"""Makes the objects that a configuration describes. All options are checked first."""

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ode_runner.building.group_types import HOLDS, check_classes, load_class, type_hints
from ode_runner.building.inner_choices import check_inner_choices
from ode_runner.config.help import did_you_mean
from ode_runner.config.hints import foreign_hint
from ode_runner.errors import RefusedInput, as_typed

IN_WORDS = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text", "NoneType": "null"}
IN_WORDS |= {"list": "list", "tuple": "list", "Sequence": "list", "dict": "mapping"}
REFUSALS = {"optimizer": (ValueError, RuntimeError)}  # with which torch's classes refuse values or combinations
NUMBERS = BeartypeConf(is_pep484_tower=True)  # an int is accepted as a float


def construct(cfg: DictConfig, group: str, *positional: Any, **runtime: Any) -> Any:
    """The object that `cfg.<group>` describes: options come from the configuration, run-time facts from the caller.

    Raises:
        RefusedInput: an option is misspelt, missing or of the wrong type.
    """
    made = checked_partial(cfg, group, positional=len(positional), named=runtime)
    try:
        return made(*positional, **runtime)
    except RefusedInput:
        raise
    except REFUSALS.get(group, ValueError) as error:
        raise RefusedInput(f"{group}: {str(error).rstrip('.')}.") from error


def checked_partial(
    cfg: DictConfig, group: str, *, positional: int = 0, named: Collection[str] = ()
) -> Callable[..., Any]:
    """The partial that `construct` calls, with its options checked; `positional` and `named` arguments come later."""
    target = target_of(cfg, group)
    missing = [str(key) for key in cfg[group] if OmegaConf.is_missing(cfg[group], key)]  # `???`: a value is required
    given = [str(key) for key in cfg[group] if key not in missing and not str(key).startswith("_")]
    options = {name: cfg[group][name] for name in given}
    parameters = inspect.signature(target).parameters
    offered = [name for name in list(parameters)[positional:] if name not in named]
    _check_names(group, [*options, *missing], offered)
    missing += [name for name in offered if name not in options and parameters[name].default is inspect.Parameter.empty]
    for name in missing:
        raise RefusedInput(f"{group}.{name} is missing. Add {group}.{name}=... or set it in the yaml.")
    hints = type_hints(target)
    check_inner_choices(options, hints, group)
    check_classes(options, hints, group)
    _check_inner(group, options)
    try:
        made = instantiate(cfg[group], _partial_=True, _convert_="all")
    except InstantiationException as error:  # from a nested object, such as the base of a coupled solver
        raise RefusedInput(_of_inner_object(error, group)) from error
    _check_values(group, made.keywords, hints, target)
    return made


def _check_names(group: str, names: Collection[str], offered: list[str]) -> None:
    for name in names:
        if name not in offered:
            available = f"Available: {', '.join(offered)}" if offered else f"The {group} chosen takes no options."
            close = did_you_mean(name, offered, closeness=0.8)
            hint = close or foreign_hint(f"{group}.{name}") or did_you_mean(name, offered)
            raise RefusedInput(f"no option '{group}.{name}'.{hint} {available}")


def _check_inner(group: str, options: Mapping[str, Any]) -> None:
    """Check names and values of nested objects, which Hydra makes before the outer values can be checked."""
    for option, value in options.items():
        for inner in value if isinstance(value, ListConfig) else [value]:
            if _is_object(inner):
                _check_object(f"{group}.{option}", {str(name): inner[name] for name in inner})


def _check_object(place: str, options: Mapping[str, Any]) -> None:
    target = load_class(options["_target_"], (object,), place)
    parameters = inspect.signature(target).parameters
    plain = {name: value for name, value in options.items() if not name.startswith("_")}
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        _check_names(place, plain, list(parameters))
    _check_inner(place, plain)
    values = {name: value for name, value in plain.items() if not _is_object(value)}
    made = {name: OmegaConf.to_object(one) if OmegaConf.is_config(one) else one for name, one in values.items()}
    _check_values(place, made, type_hints(target), target)


def _is_object(value: Any) -> bool:
    return isinstance(value, DictConfig) and "_target_" in value


def _of_inner_object(error: InstantiationException, group: str) -> str:
    """The message about a nested object, with full option names: `solver.base.num_steps`, not `solver.num_steps`."""
    sentence = str(error.__cause__ or error).splitlines()[0]
    place = re.search(r"full_key: (\S+)", str(error))
    renamed = re.sub(rf"\b{group}\.(?=\w)", f"{place[1]}.", sentence) if place else sentence
    return renamed if renamed != sentence else f"{group}: {sentence}"


def _check_values(group: str, options: Mapping[str, Any], hints: Mapping[str, Any], target: Any) -> None:
    for name, value in options.items():
        if name in hints and not _fits(value, hints[name]):
            wanted = _describe(hints[name], parts=isinstance(value, list | Mapping))
            instead = _nested(group, name, hints) or _as_number(value, hints[name])
            raise RefusedInput(f"{group}.{name}={as_typed(value)} is no {wanted}.{instead}")
        if name in hints and _is_truth(value, hints[name]):
            of = " of numbers" if isinstance(value, list | tuple) else ""
            raise RefusedInput(f"{group}.{name}={as_typed(value)} is no {_describe(hints[name])}{of}.")
        _check_finite(f"{group}.{name}", value, target)


def _as_number(value: Any, hint: Any) -> str:
    """A sentence that says how to type 1e3 as a whole number, or 60s as a number; "" for other values."""
    if isinstance(value, float) and value.is_integer() and _fits(int(value), hint):
        return f" Type {int(value)}."
    united = re.fullmatch(r"([-+]?\d+(?:\.\d+)?)\s?(%|[a-zA-Z]+)", value) if isinstance(value, str) else None
    if united is None or not _fits(1, hint):
        return ""
    return f" Type {float(united[1]) / 100:g}." if united[2] == "%" else " Type the number without a unit."


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; a list is also accepted as a tuple, since yaml has no tuples."""
    forms = (value, tuple(value)) if isinstance(value, list) else (value,)
    return any(is_bearable(form, hint, conf=NUMBERS) for form in forms) and _parts_fit(value, hint)


def _parts_fit(value: Any, hint: Any) -> bool:
    """Whether every item of a list or mapping is of its type: beartype checks only one item, at random."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if isinstance(value, Mapping):
        inner = [typing.get_args(one)[1] for one in members if typing.get_origin(one) in (dict, Mapping)]
        return not inner or any(all(_fits(part, one) for part in value.values()) for one in inner)
    if isinstance(value, list):
        inner = [typing.get_args(one)[0] for one in members if typing.get_origin(one) in (list, Sequence)]
        return not inner or any(all(_fits(part, one) for part in value) for one in inner)
    return True


def _is_truth(value: Any, hint: Any) -> bool:
    """Whether a bool is given for a number, which Python would take for 1 or 0."""
    if isinstance(value, list | tuple) and typing.get_args(hint):
        return any(_is_truth(inner, hint) for inner in value)
    return isinstance(value, bool) and not _takes_truth(hint)


def _takes_truth(hint: Any) -> bool:
    return hint in (bool, Any, object) or any(map(_takes_truth, typing.get_args(hint)))


def _check_finite(option: str, value: Any, target: Any) -> None:
    """Raises RefusedInput for integers beyond 64 bits, and for inf or nan unless the class is somebody else's."""
    if isinstance(value, list | tuple):
        for inner in value:
            _check_finite(option, inner, target)
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise RefusedInput(f"{option}={as_typed(value)} is beyond the whole numbers of 64 bits.")
    own = str(getattr(target, "__module__", "")).partition(".")[0] in ("ode_runner", "torch")
    if own and isinstance(value, float) and not math.isfinite(value):
        raise RefusedInput(f"{option}={value} is no finite number.")


def target_of(cfg: DictConfig, group: str) -> Any:
    """The class that `cfg.<group>._target_` names; it must be one that the group may hold."""
    target = cfg[group].get("_target_")
    if target is None:
        raise RefusedInput(f"the {group} chosen has no _target_: a yaml in conf/{group} must name its class.")
    return load_class(target, (HOLDS[group.partition(".")[0]],), group)


def _nested(group: str, name: str, hints: Mapping[str, Any]) -> str:
    """How to choose an option that is an object, such as the base of a coupled solver; "" for plain options."""
    hint = hints[name]
    plain = not inspect.isclass(hint) or hint.__name__ in IN_WORDS
    return "" if plain else f" Choose one by its name: {group}@{group}.{name}=NAME."


def _describe(hint: Any, *, parts: bool = False) -> str:
    """A type in words, as far as its values can be typed on a command line: `float | Tensor` is a number.

    `parts` adds what lists and mappings contain.
    """
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(str(choice) for choice in typing.get_args(hint))
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if any(typing.get_origin(member) is typing.Literal for member in members):
        return " or ".join(map(_describe, members))
    names = {getattr(typing.get_origin(member) or member, "__name__", ""): member for member in members}
    words = [
        IN_WORDS[name] + (_of_parts(member) if parts else "") for name, member in names.items() if name in IN_WORDS
    ]
    return " or ".join(words) or " or ".join(names)


def _of_parts(hint: Any) -> str:
    """The words " of numbers" for `list[float]`; "" if no word describes the items."""
    inner = typing.get_args(hint)
    if inner and inspect.isclass(inner[-1]) and issubclass(inner[-1], nn.Module):
        return " of objects, such as {_target_: torch.nn.Identity}"
    word = _describe(inner[-1], parts=True) if inner and inner[-1] is not Any else ""
    kind, of, rest = word.partition(" of ")
    return f" of {kind}s{of}{rest}" if kind in IN_WORDS.values() and " or " not in kind else ""
