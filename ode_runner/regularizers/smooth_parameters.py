"""A penalty on the change of parameters with depth."""

from typing import ClassVar, final

from torch import nn

from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.depth_varying import DepthVarying
from ode_runner.types import Scalar


@final
class SmoothParameters(Regularizer):
    """The integral of |dtheta/dt|^2 over depth, or for pieces sum |theta_k+1 - theta_k|^2 / their distance.

    It depends on the parameters only and takes no evaluation.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    needs_solve: ClassVar[bool] = False
    requires: ClassVar[type] = DepthVarying
    requirement: ClassVar[str] = "parameters that change with depth"

    def penalty(self, model: nn.Module) -> Scalar:
        assert isinstance(model, DepthVarying)
        return model.roughness()
