"""Array types, named once so that every signature reads alike.

Axes: `batch` independent samples; `*state` the shape of one ODE state; `time` requested output times.
"""

from jaxtyping import Float
from torch import Tensor

Time = Float[Tensor, ""] | Float[Tensor, " batch"]  # the same for all samples, or one for each
Times = Float[Tensor, " time"]  # monotone; ts[0] is the initial time
State = Float[Tensor, "batch *state"]
Rows = Float[Tensor, "_ *state"]  # some samples of a batch
Trajectory = Float[Tensor, "time batch *state"]
PathStates = Float[Tensor, "place batch *state"]  # at as many times as a picture asks for
Scalar = Float[Tensor, ""]
