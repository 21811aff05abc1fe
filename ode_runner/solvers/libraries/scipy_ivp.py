"""SciPy's solvers for stiff problems: LSODA, BDF and Radau."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from scipy import integrate, sparse
from torch import Tensor
from torch.func import functional_call

from ode_runner.errors import IncompatibleChoice, SolverFailed
from ode_runner.field import StackedField, VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.problem import Solution
from ode_runner.solvers import quadrature
from ode_runner.solvers.base import AdaptiveSolver, check_batch
from ode_runner.types import State, Time, Times

Array = np.ndarray[Any, np.dtype[np.float64]]

ORDERS = {"LSODA": 12, "BDF": 5, "Radau": 5}  # the highest order; it may vary along the solve
LARGEST = 20_000_000  # elements of all samples' Jacobians together: 160 MB
ROOT = float(np.finfo(np.float64).eps) ** 0.5
DENSE = 64  # up to this many equations, LSODA gets a dense Jacobian, which it factorises in 1 to 2 ms
NODES, WEIGHTS = np.polynomial.legendre.leggauss(4)


@final
@dataclass(frozen=True, kw_only=True)
class SciPy(AdaptiveSolver):
    """One of `scipy.integrate`'s solvers, in double precision on the CPU; the field is evaluated in double precision.

    Autograd cannot differentiate through it. Every call of the field counts as an evaluation, including those for a
    Jacobian by finite differences: one or two per element of a sample's state, as samples do not interact. SciPy does
    not report rejected steps. Quadratures of a field, as in the continuous adjoint, are not part of SciPy's system:
    they are computed by Gaussian quadrature with four points per step, without effect on Jacobian or step control.

    Hindmarsh, Petzold. Algorithms and Software for Ordinary Differential Equations. Computers in Physics 9, 1995.
    Shampine, Reichelt. The MATLAB ODE Suite. SIAM J. Sci. Comput. 18, 1997. ·
    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8.
    """

    kind: ClassVar[str] = "SciPy's, through which nothing can be differentiated"
    differentiable: ClassVar[bool] = False
    implicit: ClassVar[bool] = True
    method: Literal["LSODA", "BDF", "Radau"]
    order: int = field(init=False)
    longest: float | None = None  # the longest step; set by the integrator if the field has one

    @property
    def shown_name(self) -> str:
        return f"solver={self.method.lower()}"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "order", ORDERS[self.method])

    def check_state(self, y0: State) -> None:
        check_batch(y0)

    def within(self, longest: float) -> Self:
        return replace(self, longest=longest)

    def check_integrals(self) -> None:
        """Accepted: integrals are quadratures; judged ones are appended to the state."""

    @torch.no_grad()
    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        along = quadrature.counted(field)
        if along is None:
            return self._solve(field, y0, ts)
        packed = _WithQuadratures(along, y0)
        return packed.unpacked(self._solve(packed, packed.begin(y0), ts))

    def _solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        times, right = ts.tolist(), _RightSide(field, y0)
        if min(times) == max(times):
            return Solution(ys=torch.stack([y0] * len(times)), accepted=len(times) > 1)
        self._check_small(right)
        served, accepted, sign = 1, 0, 1 if times[-1] > times[0] else -1
        sums = right.quadratures.copy()
        found = [np.concatenate([right.restored(right.begin), sums])]
        for step in self._steps(right, times[0], times[-1]):
            accepted += 1
            while served < len(times) and sign * (times[served] - step.t) <= 0:
                y = right.restored(step.interpolant(times[served]))
                found.append(np.concatenate([y, sums + right.integral(step, times[served])]))
                served += 1
            sums += right.integral(step, step.t)
        states = torch.from_numpy(np.stack(found)).to(y0)
        return Solution(ys=states.view(len(times), *y0.shape), accepted=accepted)

    def _steps(self, right: "_RightSide", start: float, end: float) -> Iterator["_Step"]:
        options: dict[str, Any] = {"rtol": max(self.rtol, 1e-13), "atol": self.atol}  # SciPy warns below that
        if self.longest is not None:
            options["max_step"] = self.longest
        if self.first_step is not None:
            options["first_step"] = min(self.first_step, abs(end - start))
        if self.method == "LSODA":
            options |= self._samples_apart(right)
        else:
            of_a_sample = sparse.coo_array(np.ones((right.width, right.width)))
            options["jac_sparsity"] = sparse.block_diag([of_a_sample] * right.batch, "csc")
        if not np.isfinite(right.begin).all():  # SciPy raises ValueError
            raise SolverFailed(
                f"SciPy's {self.method} stopped at t={start:.6g}: the initial state has NaN or infinity."
            )
        made = getattr(integrate, self.method)(right, start, right.begin, end, **options)
        for _ in range(self.max_steps):
            before = made.t
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # LSODA also reports its warnings in the result
                message = made.step()
            if made.status == "failed":
                raise SolverFailed(f"SciPy's {self.method} stopped at t={made.t:.6g}: {message}")
            yield _Step(start=before, t=made.t, interpolant=made.dense_output())
            if made.status == "finished":
                return
        raise SolverFailed(f"SciPy's {self.method} stopped at t={made.t:.6g}: {self.limit_reached}")

    def _samples_apart(self, right: "_RightSide") -> dict[str, Any]:
        """Options that tell LSODA that samples do not interact: a block-diagonal Jacobian, or, if that is too large,
        its band width, with which LSODA takes several times as many steps at tight tolerances."""
        if right.batch == 1:
            return {}
        if right.batch * right.width > DENSE:
            return {"lband": right.width - 1, "uband": right.width - 1}
        return {"jac": partial(right.jacobian, least=self.atol / self.rtol)}

    def _check_small(self, right: "_RightSide") -> None:
        size = right.batch * right.width**2
        if size > LARGEST:
            raise IncompatibleChoice(
                f"SciPy's {self.method} makes a Jacobian for every sample: {right.batch:,} of {right.width:,} x "
                f"{right.width:,} numbers are too many (at most {LARGEST:,} in all; in the backward pass a sample is "
                "twice as wide). Use solver=dopri5, or a smaller batch or state."
            )


@dataclass(frozen=True, kw_only=True)
class _Step:
    start: float
    t: float
    interpolant: Any  # maps a time to the state


class _WithQuadratures(StackedField):
    """A field with judged integrals appended to its state, and the others as quadratures."""

    def __init__(self, field: CountedField, y0: State) -> None:
        super().__init__()
        self.field, self.of_state, self.copies = field, y0.shape, 1
        self.judged = field.judged
        self.others = [i for i in range(len(field.names)) if i not in self.judged]
        self.shape = torch.Size([len(y0), y0.shape[1:].numel() + len(self.judged)])

    def begin(self, y0: State) -> Tensor:
        """The flat initial state."""
        return self._flat(y0, quadrature.begin(self.field, y0))

    def forward(self, t: Time, y: Tensor) -> Tensor:
        state, _ = self._apart(y)
        dy = self.field(t, state)
        return self._flat(dy, self.field.rates(t, state, dy))

    def unpacked(self, solution: Solution) -> Solution:
        """The solution with states and integrals separated."""
        each = [self._apart(flat) for flat in solution.ys]
        ys, qs = (torch.stack(parts) for parts in zip(*each, strict=True))
        return replace(solution, ys=ys, integrals=self.field.named(qs))

    def _flat(self, y: State, q: Tensor) -> Tensor:
        rows = torch.cat([y.reshape(len(y), -1), q[:, self.judged]], dim=1)
        return torch.cat([rows.reshape(-1), q[:, self.others].reshape(-1)])

    def _apart(self, flat: Tensor) -> tuple[State, Tensor]:
        batch, width = self.shape
        rows = flat[: batch * width].view(batch, width)
        elements, quadratures = width - len(self.judged), flat[batch * width :].view(batch, len(self.others))
        q = flat.new_zeros(batch, len(self.field.names))
        q[:, self.judged], q[:, self.others] = rows[:, elements:], quadratures
        return rows[:, :elements].reshape(self.of_state), q


def _tensors(field: VectorField) -> Iterator[tuple[str, Tensor]]:
    """All tensors that a field uses, by name, including those given to it, which may not be parameters."""
    yield from field.named_parameters()
    yield from field.named_buffers()
    for prefix, module in field.named_modules():
        if isinstance(module, CountedField):
            yield from ((f"{prefix}.{name}".lstrip("."), getattr(module, name)) for name in module.held)


class _RightSide:
    """A field as SciPy calls it: ordered sample by sample, and without the quadratures at the end of the state."""

    def __init__(self, field: VectorField, y0: State) -> None:
        self.field, self.like = field, y0
        stacked = isinstance(field, StackedField)
        self.copies, shape = (field.copies, field.shape) if isinstance(field, StackedField) else (1, y0.shape)
        self.batch, self.width = shape[0], self.copies * shape[1:].numel()
        flat: Array = y0.detach().reshape(-1).double().cpu().numpy()
        size = self.batch * self.width if stacked else len(flat)
        self.begin, self.quadratures = self._by_sample(flat[:size]), flat[size:]

    def _by_sample(self, y: Array) -> Array:
        """Reorder (copies, batch, state) to (batch, copies, state), flat, so that the Jacobian is block-diagonal."""
        return y.reshape(self.copies, self.batch, -1).swapaxes(0, 1).reshape(-1)

    def restored(self, y: Array) -> Array:
        """The inverse reordering."""
        return y.reshape(self.batch, self.copies, -1).swapaxes(0, 1).reshape(-1)

    def __call__(self, t: float, y: Array) -> Array:
        return self._by_sample(self.whole(t, y)[: len(self.begin)])

    def jacobian(self, t: float, y: Array, *, least: float) -> Array:
        """The whole Jacobian by finite differences: one evaluation per element of a sample and one more.

        The increments are sqrt(eps) relative to the elements or, if larger, to `least`.
        """
        begin, full = self(t, y), np.zeros((self.batch, self.width, self.batch, self.width))
        moved = y + ROOT * np.maximum(np.abs(y), least)
        each = np.arange(self.batch)
        for element in range(self.width):
            place = y.reshape(self.batch, -1).copy()
            place[:, element] = moved.reshape(self.batch, -1)[:, element]
            change = (self(t, place.reshape(-1)) - begin).reshape(self.batch, -1)
            full[each, :, each, element] = change / (place - y.reshape(self.batch, -1))[:, element, None]
        return full.reshape(len(y), -1)

    def whole(self, t: float, y: Array) -> Array:
        """The derivative, including quadratures."""
        full = np.concatenate([self.restored(y), np.zeros_like(self.quadratures)])
        place = torch.from_numpy(full).to(self.like.device).view(self.like.shape)
        with torch.enable_grad():  # gradients reach the parameters, whatever their precision
            doubled = {name: x.double() if x.is_floating_point() else x for name, x in _tensors(self.field)}
            dy = functional_call(self.field, doubled, (place.new_full((), t), place))
        found: Array = dy.detach().reshape(-1).cpu().numpy()
        if not np.isfinite(found).all():
            size = math.sqrt(float(np.mean(np.square(y))))
            raise SolverFailed(f"stopped at t={t:.6g}, |y|={size:.3g}: the field returned NaN or infinity.")
        return found

    def integral(self, step: _Step, end: float) -> Array:
        """The integral of the quadratures' derivatives from the beginning of a step to a time `end` within it."""
        if not len(self.quadratures):
            return self.quadratures
        middle, half = (step.start + end) / 2, (end - step.start) / 2
        size, total = len(self.begin), np.zeros_like(self.quadratures)
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            t = middle + node * half
            total += half * weight * self.whole(t, step.interpolant(t))[size:]
        return total
