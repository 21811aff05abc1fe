"""The Python values that compiled code has kept: which changes are seen, and what a solve then does."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.compiling.c_code import machine_code
from ode_runner.compiling.python_values import MOST, PythonValues

compiler = pytest.mark.skipif(not any(map(shutil.which, machine_code.COMPILERS)), reason="needs a C compiler")

RATE = 1.0
RATES = SimpleNamespace(fast=1.0)
k = 1.0  # of the name of an attribute


@dataclass(slots=True)
class Slotted:
    k: float = 1.0


class Shared:
    options = SimpleNamespace(k=1.0)


class Decay(nn.Module):
    """Counts its calls, and remembers its last state, as many fields do."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.k, self.options, self.powers, self.layer = 1.0, SimpleNamespace(k=1.0), [1.0, {"k": 1.0}], nn.Tanh()
        self.activation: Callable[[Tensor], Tensor] = torch.sin
        self.array, self.slotted, self.shared = np.ones(3), Slotted(), Shared()
        self.order = torch.tensor([0, 1])
        self.register_buffer("mask", torch.tensor([True, False]))
        self.calls, self.times, self.last = 0, list[Any](), torch.zeros(1)

    def forward(self, t: Any, y: Tensor) -> Tensor:
        self.calls, self.last = self.calls + 1, y
        self.times.append(t)
        return -self.k * self.options.k * self.factor * self.activation(self.layer(y))

    def rate(self, t: Any, y: Tensor) -> Tensor:
        return -self.k * y


def of_globals(t: Any, y: Tensor) -> Tensor:
    return -RATE * RATES.fast * y


def of_function(t: Any, y: Tensor) -> Tensor:
    return torch.stack([of_globals(t, row) for row in y])


def of_keyword(t: Any, y: Tensor, *, rates: dict[str, float]) -> Tensor:
    return -rates["k"] * y


def capturing() -> Any:
    k = 1.0

    def field(t: Any, y: Tensor) -> Tensor:
        return -k * y

    def change() -> None:
        nonlocal k
        k = 2.0

    field.change = change  # type: ignore[attr-defined]
    return field


HERE = sys.modules[__name__]
TO_2 = "has changed from 1.0 to 2.0"
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], str]] = {
    "attribute": (Decay, lambda field: setattr(field, "k", 2.0), f"Decay.k {TO_2}"),
    "type": (Decay, lambda field: setattr(field, "k", 1), "Decay.k has changed from 1.0 to 1"),
    "of an object": (Decay, lambda field: setattr(field.options, "k", 2.0), f"Decay.options.k {TO_2}"),
    "object": (Decay, lambda field: setattr(field, "options", SimpleNamespace(k=1.0)), "Decay.options was replaced"),
    "item": (Decay, lambda field: field.powers[1].update(k=2.0), f"Decay.powers[1]['k'] {TO_2}"),
    "array": (Decay, lambda field: field.array.fill(2.0), "Decay.array has changed"),
    "indices": (Decay, lambda field: setattr(field, "order", torch.tensor([1, 0])), "Decay.order has changed"),
    "elements of indices": (Decay, lambda field: field.order.fill_(1), "Decay.order has changed"),
    "indices by another way": (Decay, lambda field: field.order.data.fill_(1), "Decay.order has changed"),
    "buffer": (Decay, lambda field: field.mask.logical_not_(), "Decay.mask has changed"),
    "no buffer": (Decay, lambda field: delattr(field, "mask"), "Decay.mask is not there any more"),
    "shorter list": (Decay, lambda field: field.powers.pop(), "Decay.powers[1] is not there any more"),
    "layer": (Decay, lambda field: setattr(field, "layer", nn.ReLU()), "Decay.layer was replaced"),
    "mode": (Decay, lambda field: field.layer.eval(), "Decay.layer.training has changed from True to False"),
    "function": (Decay, lambda field: setattr(field, "activation", torch.cos), "Decay.activation was replaced"),
    "of a class": (Decay, lambda field: setattr(Decay, "factor", 2.0), f"Decay.factor {TO_2}"),
    "hides that of a class": (Decay, lambda field: setattr(field, "factor", 2.0), f"Decay.factor {TO_2}"),
    "hides a method": (Decay, lambda field: setattr(field, "rate", torch.sin), "Decay.rate was replaced"),
    "slot": (Decay, lambda field: setattr(field.slotted, "k", 2.0), f"Slotted.k {TO_2}"),
    "object of a class": (Decay, lambda field: setattr(Shared.options, "k", 2.0), f"Shared.options.k {TO_2}"),
    "method": (lambda: Decay().rate, lambda field: setattr(field.__self__, "k", 2.0), f"Decay.k {TO_2}"),
    "keyword": (
        lambda: partial(of_keyword, rates={"k": 1.0}),
        lambda field: field.keywords["rates"].update(k=2.0),
        f"partial['rates']['k'] {TO_2}",
    ),
    "captured": (capturing, lambda field: field.change(), f"k {TO_2}"),
    "global": (lambda: of_globals, lambda field: setattr(HERE, "RATE", 2.0), f"RATE {TO_2}"),
    "of a global object": (lambda: of_globals, lambda field: setattr(RATES, "fast", 2.0), f"RATES.fast {TO_2}"),
    "of a function": (lambda: of_function, lambda field: setattr(HERE, "RATE", 2.0), f"RATE {TO_2}"),
}


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((HERE, "RATE"), (RATES, "fast"), (Decay, "factor"), (Shared.options, "k")):
        monkeypatch.setattr(owner, name, 1.0)


@pytest.mark.parametrize(("make", "change", "clause"), CHANGES.values(), ids=CHANGES)
def test_what_a_field_reads_is_seen_to_change(
    make: Callable[[], Any], change: Callable[[Any], Any], clause: str
) -> None:
    field = make()
    values = PythonValues(field)
    assert not values.changed()
    change(field)
    assert values.changed() == clause


@compiler
def test_a_solve_with_another_number_than_it_was_compiled_with_is_uncompiled_and_right() -> None:
    """Counters and past values, which evaluations change, change nothing."""
    field, options = Decay(), {"solver": "rk4", "num_steps": 2}
    y0, ts = torch.ones(3, 2), torch.linspace(0, 1, 3)
    solve = ode.compile(field, y0, ts, **options)
    expected, calls = solve(y0, ts).ys, field.calls
    field.k = 2.0
    with pytest.warns(UserWarning, match=f"^solved without compiled steps: Decay.k {TO_2}$"):
        halved = solve(y0, ts).ys
    assert field.calls > calls
    torch.testing.assert_close(halved, ode.integrate(field, y0, ts, **options).ys)
    torch.testing.assert_close(solve(y0, ts).ys, halved)  # without a second warning
    field.k, calls = 1.0, field.calls
    torch.testing.assert_close(solve(y0, ts).ys, expected)
    assert field.calls == calls, "compiled again"


def test_a_global_variable_of_an_attributes_name_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = PythonValues(Decay())
    monkeypatch.setattr(HERE, "k", 2.0, raising=False)
    monkeypatch.setattr(HERE, "CHANGES", {})
    assert not values.changed()


def test_equal_indices_are_the_same() -> None:
    field = Decay()
    values = PythonValues(field)
    field.order, field.mask = field.order.clone(), field.mask.clone()
    assert not values.changed()


@compiler
def test_a_solve_with_other_indices_than_it_was_compiled_with_is_uncompiled_and_right() -> None:
    order = torch.tensor([1, 0])
    field: Callable[[Any, Tensor], Tensor] = lambda t, y: -y[:, order] * torch.tensor([1.0, 2.0])  # noqa: E731
    y0, ts, options = torch.ones(3, 2), torch.linspace(0, 1, 3), {"solver": "rk4", "num_steps": 2}
    solve = ode.compile(field, y0, ts, **options)
    torch.testing.assert_close(solve(y0, ts).ys, ode.integrate(field, y0, ts, **options).ys)
    order.copy_(torch.tensor([0, 1]))
    with pytest.warns(UserWarning, match=r"^solved without compiled steps: order has changed$"):
        found = solve(y0, ts).ys
    torch.testing.assert_close(found, ode.integrate(field, y0, ts, **options).ys)


def test_a_field_that_holds_very_much_costs_no_more_than_a_thousand_comparisons() -> None:
    field = Decay()
    field.powers = [float(i) for i in range(10 * MOST)]
    assert len(PythonValues(field)._values) == MOST
