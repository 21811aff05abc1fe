"""Checks of a field in the evaluations of some solves: foreign tensors with gradients, and random numbers.

A tensor that is neither the state nor a parameter of the field gets a gradient with gradient=backprop only. A field
that draws random numbers gives other values when it is evaluated again. The checks cost no evaluation and draw no
random numbers: they build and inspect the graph of evaluations that the solve makes anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from ode_runner.devices.random_state import RandomState
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField, name_of
from ode_runner.fields.observer import Evaluated, Observer
from ode_runner.types import State

AccumulateGrad = torch._C._functions.AccumulateGrad  # the node of a leaf
AGAIN = 10  # a field is observed in solves number 1, 10, 100, ...


@final
class Observation(Observer):
    """Finds foreign tensors with a graph, and random numbers; records the random state before each evaluation.

    A graph node is foreign if two successive calls use it, or if its sequence number is smaller than that of the call.
    On a GPU only the first test works, because autograd numbers nodes per thread. Tensors hidden inside a custom
    autograd function, as by reentrant checkpointing, are not found.
    """

    def __init__(self, field: CountedField, *, mode: str, redraws: bool, looks: bool, random: bool) -> None:
        super().__init__()
        self.field, self.mode, self.redraws, self.looks = field, mode, redraws, looks
        self.random = random
        self._within = False  # True: in a nested call by torch.func
        self._leaf = torch.ones((), requires_grad=True)
        self._before: dict[int, Any] = {}  # nodes and leaves of the last call by id; kept alive, so that ids are unique

    def evaluate(self, function: Evaluated, t: Tensor, y: State) -> State:
        if self._within:
            return function(t, y)
        self._within = True
        try:
            drawn = RandomState.now(y.device)
            self.draws.append((float(t) if t.dim() == 0 else torch.nan, drawn))
            dy = self._looked_at(function, t, y) if self.looks else function(t, y)
            self.random = self.random or not drawn.same_as(RandomState.now(y.device))
        finally:
            self._within = False
        if self.random and not self.redraws:
            raise IncompatibleChoice(
                f"{name_of(self.field)} draws random numbers, as dropout does, and {self.mode} evaluates it again, "
                "with other random numbers. Use gradient=backprop, or gradient=checkpoint with an explicit "
                "solver of fixed step, such as solver=rk4."
            )
        return dy

    def look(self, function: Evaluated, t: Tensor, y: State, dy: State) -> Tensor:
        """Integrands are checked like the field. They are evaluated again in the backward pass, and must not draw."""
        drawn, within = RandomState.now(y.device), self._within
        self._within = True
        try:
            rates = self._looked_at(function, t, y, dy) if self.looks and not within else function(t, y)
        finally:
            self._within = within
        if not drawn.same_as(RandomState.now(y.device)):
            raise IncompatibleChoice(
                f"an integral along {name_of(self.field)} draws random numbers, by itself or by evaluating the field, "
                f"and {self.mode} evaluates it again, with other random numbers. Draw them before the solve "
                "and hand them over: integrate(field, y0, ts, given=(noise,)); or use gradient=backprop."
            )
        return rates

    def _looked_at(self, function: Evaluated, t: Tensor, y: State, *read: Tensor) -> Tensor:
        """function(t, y), with a graph only if the caller wants one; `read` are further tensors that it may use."""
        with _casts_of_its_own():
            return self._seen(function, t, y, *read)

    def _seen(self, function: Evaluated, t: Tensor, y: State, *read: Tensor) -> Tensor:
        with torch.enable_grad():
            first = _made_by(self._leaf * 1)._sequence_nr()
        if torch.is_grad_enabled():
            dy = function(t, y)
            self._check_own(dy, [y, *read], first)
            return dy
        with torch.enable_grad():
            dy = function(t, y.detach())
            self._check_own(dy, [y, *read], first)
        return dy.detach() if isinstance(dy, Tensor) else dy

    def _check_own(self, dy: Tensor, read: list[Tensor], first: int) -> None:
        """Raises IncompatibleChoice if the graph of `dy` contains foreign nodes; the call's own begin with `first`.

        `read` are the inputs of the call: the state, and tensors computed from it.
        """
        if not isinstance(dy, Tensor):
            return  # which is refused later
        y, own = read[0], [*read, *self.field.parameters()]  # read now: torch.func replaces parameters
        leaves, older = _origins(dy, [one.grad_fn for one in own if one.grad_fn is not None], first)
        strange = [leaf for leaf in leaves if not any(leaf is one for one in own)]
        for leaf in strange:
            if id(leaf) in self._before or isinstance(leaf, nn.Parameter):
                self._refuse(f"that asks for a gradient, of shape {tuple(leaf.shape)},", leaf)
        for node in older:
            if id(node) in self._before or y.device.type == "cpu":
                self._refuse(f"that was computed before the solve (by {node.name()})")
        self._before = {id(one): one for one in (*strange, *older)}

    def _refuse(self, which: str, leaf: Tensor | None = None) -> NoReturn:
        held = "make the field a module that holds it, or the layer that it belongs to, as an attribute"
        given = (
            "hand the tensor over, with a row for every sample: integrate(field, y0, ts, given=(tensor,)), for a field "
            "f(t, y, tensor)"
        )
        raise IncompatibleChoice(
            f"{name_of(self.field)} reads a tensor {which} and is neither its state nor one of its parameters: "
            f"{self.mode} would give it no gradient. Use gradient=backprop, which does, or "
            f"{held if isinstance(leaf, nn.Parameter) else given}."
        )


@contextmanager
def _casts_of_its_own() -> Iterator[None]:
    """Inside, autocast's cache is off: its cast parameters have nodes that are older than the call."""
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)


def _origins(dy: Tensor, own: list[Node], first: int) -> tuple[list[Tensor], list[Node]]:
    """The leaves of a graph, and the nearest nodes numbered below `first`; the search stops at the nodes `own`."""
    leaves, older, seen = [dy] if dy.requires_grad and dy.is_leaf else [], [], set(own)
    waiting: list[Node | None] = [dy.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, AccumulateGrad):
            leaves.append(node.variable)
        elif node._sequence_nr() < first:
            older.append(node)
        else:
            waiting += [function for function, _ in node.next_functions]
    return leaves, older


def _made_by(x: Tensor) -> Any:
    return x.grad_fn


@dataclass
class _Known:
    training: bool
    solves: int = 0
    due: int = 1  # number of the next solve to observe
    random: bool = False


class FieldObservations:
    """The observations of all fields of an integrator, and when a field is observed again."""

    def __init__(self) -> None:
        self._alone: WeakKeyDictionary[VectorField, _Known] = WeakKeyDictionary()
        self._with_integrals: WeakKeyDictionary[VectorField, _Known] = WeakKeyDictionary()

    @contextmanager
    def during(self, field: VectorField, counted: CountedField, **options: Any) -> Iterator[None]:
        """Inside, observes the evaluations of a solve as `of` says; the findings are stored unless the solve fails."""
        counted.observer = observation = self.of(field, counted, **options)
        try:
            yield
        finally:
            counted.observer = None
        self.note(field, counted, observation)

    def of(
        self, field: VectorField, counted: CountedField, *, mode: str, redraws: bool, may_look: bool = True
    ) -> Observation | None:
        """The observation for a solve with gradients; None if there is nothing to check or to record.

        `may_look` is False while a CUDA graph is being recorded, because the checks wait for the GPU; then the next
        solve is observed instead.
        """
        fields = self._like(counted)
        known = fields.get(field)
        if known is None or known.training != field.training:
            known = fields[field] = _Known(training=field.training)
        looks = known.solves + 1 >= known.due and may_look
        if not looks and not known.random:
            return None
        return Observation(counted, mode=mode, redraws=redraws, looks=looks, random=known.random)

    def note(self, field: VectorField, counted: CountedField, observation: Observation | None) -> None:
        """Store the findings of a successful solve; a failed solve is not counted."""
        known = self._like(counted)[field]
        known.solves += 1
        if observation is not None:
            known.due *= AGAIN if observation.looks else 1
            known.random |= observation.random

    def _like(self, counted: CountedField) -> WeakKeyDictionary[VectorField, _Known]:
        return self._with_integrals if counted.names else self._alone


@final
class Redrawn(Observer):
    """Repeats evaluations with the same random numbers as before, beginning with the evaluation at `place`."""

    def __init__(self, states: list[RandomState]) -> None:
        super().__init__()
        self.states, self.place = states, 0

    def evaluate(self, function: Evaluated, t: Tensor, y: State) -> State:
        self.states[self.place].restore()
        self.place += 1
        return function(t, y)
