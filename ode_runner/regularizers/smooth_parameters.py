"""A penalty on the change of parameters with depth."""

from typing import ClassVar, final

import torch
from torch import nn

from ode_runner.errors import IncompatibleChoice
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

    def check(self, model: nn.Module) -> None:
        assert isinstance(model, DepthVarying)
        if not _varies(model):
            raise IncompatibleChoice(
                "regularizer=smooth_parameters is 0 whatever the parameters: with these options of the model they are "
                "the same at every depth, as with model.shared=true or a single layer, piece or basis function. Use "
                "several that are not shared, or leave the regulariser out."
            )

    def penalty(self, model: nn.Module) -> Scalar:
        assert isinstance(model, DepthVarying)
        return model.roughness()


@torch.no_grad()
def _varies(model: DepthVarying) -> bool:
    """Whether any values of the parameters make the penalty positive, asked with others than they begin at."""
    parameters = list(model.parameters())
    before = [parameter.clone() for parameter in parameters]
    try:
        for i, parameter in enumerate(parameters):
            changes = torch.arange(parameter.numel(), dtype=parameter.dtype, device=parameter.device)
            parameter.copy_((changes + i).sin().view_as(parameter))
        return float(model.roughness()) > 0
    finally:
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
