"""Copies and conversions of models that hold computed, sparse or complex tensors."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ode_runner.models.base import Model
from ode_runner.types import holds_whole_numbers


def copied(model: Model) -> Model:
    """A deep copy of a model. Non-leaf tensors that its modules hold, such as an encoder's output, are detached.

    copy.deepcopy refuses these, which the next forward pass of the copy computes again, and compressed sparse tensors.
    """
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in _not_copied(model)})


def convert(model: Model, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Model:
    """model.to(device, dtype), except that complex tensors become complex ones of that precision, and not real."""
    kinds = {True: dtype and dtype.to_complex(), False: dtype}
    return model._apply(lambda x: x.to(device, None if holds_whole_numbers(x) else kinds[x.is_complex()]))


def _not_copied(root: Any) -> Iterator[Tensor]:
    """Non-leaf and compressed sparse tensors in modules, objects and containers below `root`."""
    seen, waiting = set[int](), [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            if not one.is_leaf or one.layout not in (torch.strided, torch.sparse_coo):
                yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        elif not isinstance(one, type):
            waiting += _attributes(one)


def _attributes(one: Any) -> list[Any]:
    try:
        return list(vars(one).values())
    except TypeError:  # a number, a word, a function of C
        return []
