"""Sentences on numbers of `diagnostics=flow` that cross a threshold. Imports no torch."""

import math
import re
from collections.abc import Mapping

STIFF = 100.0  # fastest decay times time span
GROWTH = 100.0  # factor by which the distance of neighbouring states grows
DRIFT = 0.01  # relative distance of the end of a backward solve from the initial state
RATIO = 100.0  # of the gradient norms at both ends, or its inverse
REJECTED = 0.3  # share of attempted steps
REACH = 3.3  # extent of the stability regions of common explicit methods of order 4 and 5 along the negative axis


def remarks(metrics: Mapping[str, float], *, differentiates: bool = True) -> list[str]:
    """A sentence for each threshold crossed, from a run's final metrics.

    `differentiates`: whether the run has a gradient mode; sentences on gradients are left out otherwise.
    """
    found = {name.removeprefix("diagnostics/"): value for name, value in metrics.items() if "diagnostics/" in name}
    if "stiffness" not in found:
        return []
    if math.isnan(found["rejected_share"]):  # as nothing else is by itself
        return ["diagnostics=flow: the solve that it measures fails with the last weights; its numbers are blank."]
    sentences = [_stiffness(found["stiffness"]), _growth(found["growth"])]
    sentences += [_drift(found.get("drift", 0.0)), _ratio(found["gradient_ratio"])] if differentiates else []
    sentences += [_rejected(found["rejected_share"]), _unknown(found)]
    return [sentence for sentence in sentences if sentence]


def _unknown(found: Mapping[str, float]) -> str:
    """A sentence on numbers that are NaN, except drift (`_drift` reports it) and the ratio (0 / 0 is possible)."""
    missing = [name for name, value in found.items() if math.isnan(value) and name not in ("drift", "gradient_ratio")]
    names = ", ".join(dict.fromkeys(re.sub(r"_\d+$", "", name) for name in missing))
    what = "derivatives that this solver or this field does not give"
    return f"{names}: unknown, and blank in tables; they need {what}." if names else ""


def _stiffness(value: float) -> str:
    if not value > STIFF:
        return ""
    return (
        f"stiffness {value:.0f}: the fastest component decays within 1/{value:.0f} of the time span, so an explicit "
        f"solver needs about {value / REACH:.0f} steps for stability alone. Try solver=kvaerno3 if the state is small."
    )


def _growth(value: float) -> str:
    if not value > GROWTH:
        return ""
    return (
        f"growth {value:.3g}: neighbouring states separate by that factor, and rounding and solver errors grow as much."
    )


def _drift(value: float) -> str:
    if value <= DRIFT:
        return ""
    missed = "fails" if math.isnan(value) else f"misses the initial state by {value:.2g} times its size"
    return (
        f"drift: a solve backwards {missed}, so gradient=adjoint follows another path than the solution. "
        "Try gradient=backprop or checkpoint."
    )


def _ratio(value: float) -> str:
    if value > RATIO:
        return f"gradient ratio {value:.3g}: the gradient explodes on its way to the first state."
    if value < 1 / RATIO:
        return f"gradient ratio {value:.2g}: the gradient vanishes on its way to the first state."
    return ""


def _rejected(value: float) -> str:
    if not value > REJECTED:
        return ""
    return f"rejected share {value:.0%}: so many attempted steps are wasted; the field is not smooth on their scale."
