"""Parameters that training does not change: those the loss does not depend on, and those that are not the model's."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from ode_runner.objectives.base import Loss

SHOWN = 3  # names of parameters in a sentence
# Nodes of a graph that is visited. PyTorch frees nodes that Python has seen by recursion, which overflows the stack (a
# segmentation fault) in a graph of 100,000.
MOST_NODES = 20_000


@torch.enable_grad()
def nodes_so_far() -> int:
    """The number of nodes that autograd has made in this thread."""
    node = torch.ones((), requires_grad=True).clone().grad_fn
    assert node is not None
    return node._sequence_nr()


def sentences_on_parameters(model: nn.Module, loss: Loss, *, before: int) -> list[str]:
    """Sentences for the user if a loss does not depend on some parameters, or depends on others than the model's.

    They are read from the graph of the loss, unless that is very large: see `MOST_NODES`. Parameters without
    `requires_grad` are expected not to change. `before` are the `nodes_so_far` when the loss was begun.
    """
    if loss.total.grad_fn is None or loss.total.grad_fn._sequence_nr() - before > MOST_NODES:
        return []
    leaves = {id(leaf): leaf for leaf in _leaves(loss.total.grad_fn)}
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    own = {id(p) for p in model.parameters()}
    unused = [name for name, p in named.items() if id(p) not in leaves]
    others = [leaf for key, leaf in leaves.items() if isinstance(leaf, nn.Parameter) and key not in own]
    return [*([_on_unused(unused, len(named))] if unused else []), *([_on_others(others)] if others else [])]


def _on_unused(names: Sequence[str], count: int) -> str:
    return (
        f"the loss does not depend on {_listed(names)}, {len(names)} of {count} parameters, in the first step. A "
        "parameter keeps its initial value as long as it is not used (as before the first event), or is used under "
        "no_grad() or before a detach()."
    )


def _on_others(parameters: Sequence[nn.Parameter]) -> str:
    shapes = _listed([tuple(p.shape) for p in parameters])
    return (
        f"the loss depends on {len(parameters)} parameters that are not the model's (of shape {shapes}), so that the "
        "optimizer never changes them. Make them in the model's __init__."
    )


def _leaves(root: Node) -> Iterator[Tensor]:
    """The leaves of a graph: the tensors that would get a gradient."""
    seen, due = {root}, [root]
    while due:
        node = due.pop()
        leaf = getattr(node, "variable", None)  # of the nodes that accumulate gradients
        if isinstance(leaf, Tensor):
            yield leaf
        new = dict.fromkeys(after for after, _ in node.next_functions if after is not None and after not in seen)
        seen |= new.keys()
        due += reversed(new)


def _listed(things: Sequence[object]) -> str:
    more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return ", ".join(map(str, things[:SHOWN])) + more
