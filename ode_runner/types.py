"""Array types of signatures, and the kind of their elements.

Axes: `batch` samples, which are independent; `*state` the shape of one sample's state; `time` requested output times.
"""

from jaxtyping import Float
from torch import Tensor

Time = Float[Tensor, ""] | Float[Tensor, " batch"]  # one time for all samples, or one per sample
Times = Float[Tensor, " time"]  # monotone; ts[0] is the initial time
State = Float[Tensor, "batch *state"]
Rows = Float[Tensor, "_ *state"]  # some samples of a batch
Trajectory = Float[Tensor, "time batch *state"]
PathStates = Float[Tensor, "place batch *state"]  # at the times of a picture
Scalar = Float[Tensor, ""]


def holds_whole_numbers(x: Tensor) -> bool:
    """Whether the elements of a tensor are whole numbers or truth values."""
    return not (x.is_floating_point() or x.is_complex())
