"""The wrapper through which solvers evaluate a field: it counts evaluations, lowers precision and passes `given` on.

It also evaluates the integrands along a solve and holds the noise that drives the field.
"""

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cache, partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ode_runner.devices.random_state import RandomState
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import JVP, LinearizableField, VectorField
from ode_runner.fields.driving_noise import DrivingNoise
from ode_runner.fields.ledger import Ledger
from ode_runner.fields.observer import Observer, Untouched
from ode_runner.fields.structured_field import kind_of, slope_of
from ode_runner.integral import NONE, VJP, Integral, stacked
from ode_runner.noise.brownian_path import Noise
from ode_runner.types import State, Time


class CountedField(VectorField):
    """A field as a function of time and state alone; each call is counted in the ledger.

    Args:
        dtype: a lower precision for evaluations of the field, by autocast; time and state keep theirs.
        given: tensors (batch, ...) that the field receives after time and state, followed by those of each integral.
        attached: True: the field receives the caller's own tensors, and autograd differentiates through their graph.
            False: it receives leaves with the same values, which are parameters of this wrapper. Every gradient mode
            then differentiates with respect to them as to any parameter, and a graph that `given` shares with the
            field's own parameters is traversed only once.
        integrals: the integrals along a solve, by name.
        noise: the noise that drives a stochastic field.
        span: the earliest and the latest time that the field sees; other times are clamped to this interval.
    """

    def __init__(
        self,
        field: VectorField,
        ledger: Ledger,
        *,
        dtype: torch.dtype | None = None,
        given: Sequence[Tensor] = (),
        attached: bool = False,
        integrals: Mapping[str, Integral] = NONE,
        noise: Noise | None = None,
        span: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.field, self.ledger, self.dtype = field, ledger, dtype
        self.batched_time = isinstance(field, VectorField) and field.batched_time  # a plain function is allowed, too
        self.given, self.attached = tuple(given), attached
        self.integrals = nn.ModuleList(integrals.values()) if integrals else ()
        self.names = tuple(integrals)
        self.counts = [len(integral.given) for integral in integrals.values()]  # tensors of each integrand
        self.noise, self.span = noise, span
        self._driving_noise = DrivingNoise(noise, field) if noise is not None else None
        self.observer: Observer | None = None
        self._untouched = Untouched(partial(name_of, field))
        self._jvps: MutableMapping[Tensor, JVP] = WeakTensorKeyDictionary() if integrals else {}  # by derivative
        self.held = [f"given_{i}" for i in range(len(self.given))]  # attributes, replaceable by functional_call
        for name, z in zip(self.held, self.given, strict=True):
            leaf = z.is_floating_point() and not attached
            setattr(self, name, nn.Parameter(z.detach(), requires_grad=z.requires_grad) if leaf else z)

    def __setattr__(self, name: str, value: Any) -> None:
        """Skips nn.Module's slow bookkeeping for all but tensors and modules, because every solve makes a wrapper."""
        if isinstance(value, Tensor | nn.Module):
            super().__setattr__(name, value)
        else:
            object.__setattr__(self, name, value)

    @staticmethod
    def around(field: VectorField, ledger: Ledger, **options: Any) -> "CountedField":
        """A counting wrapper of the same kind as the field: for a separable field, a separable one."""
        return _counted(kind_of(field))(field, ledger, **options)

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        remembers = self.names and isinstance(self.field, LinearizableField)
        dy = self.evaluate(self._remembered if remembers else self.field, 1, t, y, given)
        return fitted(dy, y, self.field)

    def _remembered(self, t: Any, y: State, *given: Tensor) -> State:
        """f(t, y, *given); keeps the function that computes Jacobian-vector products at this point."""
        assert isinstance(self.field, LinearizableField)
        dy, self._jvps[dy] = self.field.linearize(t, y, *given)
        return dy

    def evaluate(
        self, function: Callable[..., State], count: float, t: Any, y: State, given: Sequence[Tensor]
    ) -> State:
        """function(t, y, *given), counted as `count` evaluations; without `given`, the tensors held here are passed."""
        self.ledger.tally.evaluations += count
        t = t if self.span is None else t.clamp(*self.span)
        if self.held or self.dtype is not None or given:
            function = Call(function, self.dtype, self.of_field(given or self.arguments()))
        observed = function if self.observer is None else partial(self.observer.evaluate, function)
        try:
            return self._untouched.evaluate(observed, t, y)
        except RuntimeError as error:
            self._check_precision(y, error)
            raise

    def _check_precision(self, y: State, error: RuntimeError) -> None:
        """Raises RefusedInput if a call failed since the field's parameters have another precision than the state."""
        others = {p.dtype for p in self.field.parameters() if p.is_floating_point() and p.dtype != y.dtype}
        if others and re.search("dtype|scalar type|[Ii]nput type", str(error)):
            own = others.pop()
            raise RefusedInput(
                f"{name_of(self.field)} has parameters of {own}, and its state is {y.dtype}, the finer precision of "
                f"initial state and times. Convert the field, .to({y.dtype}), or initial state and times, .to({own})."
            ) from error

    def rates(self, t: Any, y: State, dy: State, *given: Tensor) -> Tensor:
        """The integrands at (t, y), (batch, integral), where dy = f(t, y). Not counted as an evaluation."""
        every, t = given or self.arguments(), t if self.span is None else t.clamp(*self.span)
        arguments, ends = self.of_field(every), accumulate(self.counts, initial=len(every) - sum(self.counts))
        own = [every[begin:end] for begin, end in pairwise(ends)]

        def integrands(t: Any, y: State) -> Tensor:
            jvp = partial(self._jvp, t, y, dy, arguments) if isinstance(self.field, LinearizableField) else None
            vjp = VJP(partial(self._again, arguments), t, y, self._enter_products, jvp)
            rates = [g(t, y, dy, vjp, *arguments, *more) for g, more in zip(self.integrals, own, strict=True)]
            return stacked(rates, self.names, y)

        return integrands(t, y) if self.observer is None else self.observer.look(integrands, t, y, dy)

    def _again(self, arguments: Sequence[Tensor], t: Any, y: State) -> State:
        """f(t, y), or the drift of a stochastic field, evaluated again for products with its Jacobian."""
        with self._nothing_drawn(y.device):
            return Call(slope_of(self.field), self.dtype, arguments)(t, y)

    @contextmanager
    def _nothing_drawn(self, device: torch.device) -> Iterator[None]:
        """Raises IncompatibleChoice if the field draws random numbers: evaluated again, it would give other values."""
        drawn = RandomState.now(device)
        yield
        if not drawn.same_as(RandomState.now(device)):
            raise IncompatibleChoice(
                f"{name_of(self.field)} draws random numbers, as dropout does, and an integral takes products with its "
                "Jacobian, for which it is evaluated again with other random numbers. Leave dropout out of the field."
            )

    def _jvp(self, t: Any, y: State, dy: State, arguments: Sequence[Tensor], v: Tensor) -> Tensor:
        """(df/dy) v, where dy = f(t, y): from the pass that computed `dy`, if it was kept, else in full precision.

        With an observer, the pass is always made again, so that the observer sees all of it in this call.
        """
        jvp = self._jvps.get(dy) if self.observer is None else None
        if jvp is None:
            assert isinstance(self.field, LinearizableField)
            with self._nothing_drawn(y.device):
                jvp = self.field.linearize(t, y, *arguments)[1]
        return jvp(v)

    def between(self, low: float, high: float) -> "CountedField":
        """A copy with the same parameters whose times are clamped to [low, high]."""
        inside = copy(self)
        inside.span = (low, high)
        return inside

    @property
    def driving_noise(self) -> DrivingNoise:
        """The noise that drives the field along a solve; the integrator has checked that there is one."""
        assert self._driving_noise is not None
        return self._driving_noise

    def _enter_products(self, count: int) -> None:
        self.ledger.tally.products += count

    @property
    def judged(self) -> list[int]:
        """The indices of the integrals whose error is under step control."""
        return [i for i, integral in enumerate(self.integrals) if integral.judged]

    def named(self, qs: Tensor) -> dict[str, Tensor]:
        """Integrals (time, batch, integral) as a dict by name, (time, batch) each."""
        return {name: qs[..., i] for i, name in enumerate(self.names)}

    def stacked(self, integrals: Mapping[str, Tensor], ys: Tensor) -> Tensor:
        """The inverse of `named`: (time, batch, integral); without integrals, (time, 0)."""
        parts = [integrals[name] for name in self.names]
        return torch.stack(parts, dim=-1) if parts else ys.new_zeros(len(ys), 0)

    def unobserved(self) -> "CountedField":
        """A wrapper of the same field without an observer."""
        return CountedField.around(self.field, self.ledger, **self.options())

    def options(self) -> dict[str, Any]:
        """The keyword arguments with which `around` makes an equal wrapper."""
        own = {name: getattr(self, name) for name in ("dtype", "given", "attached", "noise", "span")}
        return own | {"integrals": dict(zip(self.names, self.integrals, strict=True))}

    def arguments(self) -> list[Tensor]:
        """The tensors that the field receives after time and state, followed by those of each integrand."""
        return [getattr(self, name) for name in self.held]

    def of_field(self, given: Sequence[Tensor]) -> Sequence[Tensor]:
        """The part of `given` that the field receives, without the tensors of integrands."""
        return given[: len(given) - sum(self.counts)]

    def leaves(self) -> list[Tensor]:
        """The tensors besides y0 with respect to which a solve is differentiated: parameters and given tensors."""
        return [p for p in self.parameters() if p.requires_grad]

    def inputs(self) -> list[Tensor]:
        """The inputs of an autograd function, in the order of `leaves`; for `given`, these are the caller's tensors."""
        given = {id(getattr(self, name)): z for name, z in zip(self.held, self.given, strict=True)}
        return [given.get(id(leaf), leaf) for leaf in self.leaves()]


class Call:
    """A function of time and state alone: `given` is bound, and autocast to `dtype` is on unless it is None."""

    def __init__(self, function: Callable[..., State], dtype: torch.dtype | None, given: Sequence[Tensor]) -> None:
        self.function, self.dtype, self.given = function, dtype, given

    def __call__(self, t: Any, y: State) -> State:
        if self.dtype is None:
            return self.function(t, y, *self.given)
        with torch.autocast(y.device.type, dtype=self.dtype):
            dy = self.function(t, y, *self.given)
        if y.is_floating_point():
            return dy.to(y.dtype)
        return dy.to(torch.promote_types(dy.dtype, torch.float32))  # rates or logits at integer states


@cache
def _counted(kind: type[VectorField]) -> type[CountedField]:
    """The wrapper class for a kind of field: it has the kind's methods, each counted by its declared weight."""
    if kind is VectorField:
        return CountedField
    calls = {name: _call(name, weight) for name, weight in kind.call_weights.items()}
    return type(f"Counted{kind.__name__}", (CountedField, kind), calls)


def _call(name: str, count: float) -> Callable[..., State]:
    def call(self: CountedField, t: Time, y: State, *given: Tensor) -> State:
        function = self.field if name == "forward" else getattr(self.field, name)
        return fitted(self.evaluate(function, count, t, y, given), y, self.field, name)

    return call


def fitted(found: Any, y: State, field: VectorField, call: str = "forward") -> Tensor:
    """What a call of the field has given at the state `y`, in the type of that.

    Raises:
        RefusedInput: it is a derivative and has another shape, in which it would be broadcast; or it is complex.
    """
    if (call == "forward" or call in kind_of(field).slopes) and not (
        isinstance(found, Tensor) and found.shape == y.shape
    ):
        gave = f"one of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise RefusedInput(
            f"{_named(field, call)} must give a derivative in the shape of its state, a tensor {tuple(y.shape)}, and "
            f"gave {gave}."
        )
    if not isinstance(found, Tensor) or found.dtype == y.dtype or not y.is_floating_point():
        return found
    if found.is_complex():
        raise RefusedInput(
            f"{_named(field, call)} gave complex numbers ({found.dtype}), and its state is real. Solve for real and "
            "imaginary parts, torch.view_as_real(...)."
        )
    return found.to(y.dtype)


def _named(field: VectorField, call: str) -> str:
    return name_of(field) if call == "forward" else f"{call} of {name_of(field)}"


def uncounted(field: VectorField) -> VectorField:
    """The field inside all counting wrappers."""
    while isinstance(field, CountedField):
        field = field.field
    return field


def name_of(field: VectorField) -> str:
    """The name of a field in messages, without its counting wrappers."""
    inside = uncounted(field)
    return inside.shown_name if isinstance(inside, VectorField) else type(inside).__name__  # as for `batched_time`
