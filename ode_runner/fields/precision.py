"""The precision of a solve: that of state and times, without autocast."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, promote_types

from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import JumpField
from ode_runner.types import State, Times


def in_full_precision(y: State) -> AbstractContextManager[None]:
    """Inside, autocast is off."""
    kind = y.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def in_joint_precision(field: VectorField, encoding: Encoding, ts: Times) -> tuple[State, Sequence[Tensor]]:
    """State and given tensors in the joint precision of state and times; the state of a Markov chain stays int64."""
    y0 = encoding.y0
    precise = y0.to(promote_types(y0.dtype, ts.dtype))
    return y0 if isinstance(field, JumpField) else precise, encoding.to(precise.dtype).given
