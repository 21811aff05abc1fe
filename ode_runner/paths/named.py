"""The paths by their names in options."""

from typing import Literal

from ode_runner.paths.base import GaussianPath
from ode_runner.paths.cosine import Cosine
from ode_runner.paths.linear import Linear
from ode_runner.paths.variance_exploding import VarianceExploding
from ode_runner.paths.variance_preserving import SubVariancePreserving, VariancePreserving

PathName = Literal["linear", "vp", "subvp", "ve", "cosine"]
BETA_MIN, BETA_MAX = 0.1, 20.0  # Song et al. 2021, appendix C
SIGMA_MIN, SIGMA_MAX = 0.01, 10.0  # for data of standard deviation 1; the paper has 50 for images with pixels in [0, 1]


def path_named(name: PathName, *, sigma_max: float = SIGMA_MAX) -> GaussianPath:
    """The path with this name and the constants of its paper; `sigma_max` is used by `ve` only."""
    if name == "linear":
        return Linear()
    if name == "cosine":
        return Cosine()
    if name == "ve":
        return VarianceExploding(sigma_min=SIGMA_MIN, sigma_max=sigma_max)
    kind = VariancePreserving if name == "vp" else SubVariancePreserving
    return kind(beta_min=BETA_MIN, beta_max=BETA_MAX)
