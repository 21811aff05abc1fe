"""Makes torch's optimizers without importing its compiler, which takes a second although nothing is compiled."""

import inspect
from collections.abc import Callable
from types import MethodType

import torch
from torch.optim import Optimizer

MARKED = ("add_param_group", "state_dict", "load_state_dict")  # methods that torch marks as not to be compiled


def without_compiler(make: Callable[[], Optimizer]) -> Optimizer:
    """The optimizer that `make` makes. The step of torch's own optimizers is unwrapped from its decorators.

    These decorators are for profiling, and for steps that are compiled or differentiated.
    """
    for name in MARKED:
        method = inspect.unwrap(getattr(Optimizer, name))
        setattr(method, "__dynamo_disable", method)  # as torch does, once it has imported the compiler
    optimizer = make()
    if type(optimizer).__module__.startswith("torch.optim."):
        step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
        optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]
    return optimizer
