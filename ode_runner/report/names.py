"""Resolves names as a person types them: whole, or an unambiguous ending."""

import difflib
from collections.abc import Sequence

from ode_runner.errors import RefusedInput


def resolve(typed: str, names: Sequence[str], kind: str) -> str:
    """The name meant by `typed`: `nfe_forward` for cost/nfe_forward, `rtol` for solver.rtol.

    Raises:
        RefusedInput: there is no such name, or several end alike.
    """
    if typed in names:
        return typed
    ending = [name for name in names if name.endswith((f"/{typed}", f".{typed}"))]
    shortest = min((name.count("/") for name in ending), default=0)
    ending = [name for name in ending if name.count("/") == shortest]  # test/kl, not the term test/loss/kl
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise RefusedInput(f"'{typed}' may mean {' or '.join(ending)}.")
    close = difflib.get_close_matches(typed, names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise RefusedInput(f"no {kind} named '{typed}'.{hint} Available: {', '.join(names)}")


def resolve_first(typed: str, preferred: Sequence[str], others: Sequence[str], kind: str) -> str:
    """The name meant by `typed` among the preferred ones, or else among all.

    Raises:
        RefusedInput: there is no such name, or several end alike.
    """
    suits = any(name == typed or name.endswith((f"/{typed}", f".{typed}")) for name in preferred)
    return resolve(typed, preferred if suits else list(dict.fromkeys([*preferred, *others])), kind)


def split_names(typed: str) -> list[str]:
    """Comma-separated names."""
    return [name.strip() for name in typed.split(",") if name.strip()]
