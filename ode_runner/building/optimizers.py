"""torch's optimizers without its compiler, which they import when first used: a second, and nothing is compiled."""

import inspect
from collections.abc import Callable
from types import MethodType

import torch
from torch.optim import Optimizer

MARKED = ("add_param_group", "state_dict", "load_state_dict")  # for the compiler to leave alone


def without_compiler(make: Callable[[], Optimizer]) -> Optimizer:
    """The optimizer that `make` makes; one of torch's own takes its steps by the same code without what is around it.

    That is there for profiles, and for steps that are compiled or differentiated.
    """
    for name in MARKED:
        method = inspect.unwrap(getattr(Optimizer, name))
        setattr(method, "__dynamo_disable", method)  # as torch does, once it has imported the compiler
    optimizer = make()
    if type(optimizer).__module__.startswith("torch.optim."):
        step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
        optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]
    return optimizer
