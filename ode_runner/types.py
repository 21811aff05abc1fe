"""Array types, named once so that every signature reads alike.

Axes: `batch` independent samples; `*state` the shape of one ODE state; `time` requested output times.
"""

from jaxtyping import Float
from torch import Tensor

Time = Float[Tensor, ""]
Times = Float[Tensor, " time"]  # monotone; ts[0] is the initial time
State = Float[Tensor, "batch *state"]
Trajectory = Float[Tensor, "time batch *state"]
Scalar = Float[Tensor, ""]
