"""Controls by their names in options."""

from typing import Literal

from ode_runner.controls.base import Control
from ode_runner.controls.hermite import HermiteControl
from ode_runner.controls.linear import LinearControl
from ode_runner.controls.natural import NaturalControl
from ode_runner.controls.rectilinear import RectilinearControl

ControlName = Literal["hermite", "linear", "natural", "rectilinear"]
CONTROLS: dict[ControlName, type[Control]] = {
    "hermite": HermiteControl,
    "linear": LinearControl,
    "natural": NaturalControl,
    "rectilinear": RectilinearControl,
}


def control_named(name: ControlName) -> Control:
    """The control with this name."""
    return CONTROLS[name]()
