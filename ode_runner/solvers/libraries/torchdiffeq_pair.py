"""Adaptive pairs by torchdiffeq, as a reference for our own."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
import torchdiffeq

from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.problem import Solution
from ode_runner.solvers.base import AdaptiveSolver
from ode_runner.solvers.initial_step import rms
from ode_runner.solvers.packed_field import PackedField, solve_packed
from ode_runner.types import State, Time, Times

Method = Literal["adaptive_heun", "fehlberg2", "bosh3", "dopri5", "dopri8"]
ORDERS: dict[Method, int] = {"adaptive_heun": 2, "fehlberg2": 2, "bosh3": 3, "dopri5": 5, "dopri8": 8}


@dataclass(frozen=True, kw_only=True)
class TorchdiffeqPair(AdaptiveSolver):
    """The pair of our solver with the same name, run by torchdiffeq.

    The last step ends on ts[-1], as in our solvers; by default torchdiffeq steps beyond the end and interpolates. It
    differs from ours as follows: the choice of the first step may evaluate the field far beyond the span; `backprop`
    also differentiates the step sizes; and single steps cannot be recomputed, so that exact gradient modes that save
    memory do not take it.

    Chen. torchdiffeq. 2018, https://github.com/rtqichen/torchdiffeq.
    """

    kind: ClassVar[str] = "torchdiffeq's own"
    method: Method
    order: int = field(default=0, init=False)  # set to that of the method
    longest: float | None = None  # the longest step; set by the integrator if the field has one

    @property
    def shown_name(self) -> str:
        return "solver=torchdiffeq"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "order", ORDERS[self.method])

    def within(self, longest: float) -> Self:
        return replace(self, longest=longest)

    def check_integrals(self) -> None:
        """Accepted: integrals are appended to the state; the error norm includes the judged ones only."""

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return solve_packed(self._solve, field, y0, ts)

    def _solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        times, indices = torch.unique_consecutive(
            ts.to(y0.dtype), return_inverse=True
        )  # torchdiffeq refuses repeated ones
        if len(times) == 1:
            return Solution(ys=torch.stack([y0] * len(ts)), accepted=0)
        counter = _StepCounter(field)
        options: dict[str, Any] = {"max_num_steps": self.max_steps, "step_t": times[-1:], "dtype": y0.dtype}
        options |= {} if self.longest is None else {"max_step": self.longest}
        norm = field.norm if isinstance(field, PackedField) else self.norm
        options |= {} if norm is None else {"norm": norm}
        options |= {} if self.first_step is None else {"first_step": self.first_step}
        try:
            ys = torchdiffeq.odeint(
                counter, y0, times, rtol=self.rtol, atol=self.atol, method=self.method, options=options
            )
        except AssertionError as failure:
            raise SolverFailed(self._diagnosis(counter, str(failure))) from failure
        return Solution(ys=ys[indices], accepted=counter.accepted, rejected=counter.rejected)

    def _diagnosis(self, counter: "_StepCounter", said: str) -> str:
        where = f"torchdiffeq's {self.method} stopped at t={counter.t:.6g} after {counter.accepted} accepted and "
        where += f"{counter.rejected} rejected steps, |y|={counter.size:.3g}, last steps {counter.dt:.2g}"
        if not counter.finite:
            return f"{where}: the field returned NaN or infinity."
        if not counter.accepted + counter.rejected:
            return f"{where}: steps shrank to nothing at once, |f| is too large for its choice. Use solver=dopri5."
        if "max_num_steps" in said:
            return f"{where}: {self.limit_reached}"
        return f"{where}: steps shrank to nothing, so the problem is stiff for it. Loosen the tolerances."


class _StepCounter(VectorField):
    """Forwards to another field; torchdiffeq calls the callback methods defined here for each step."""

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        self.field = field
        self.accepted = self.rejected = 0
        self.t = self.dt = self.size = 0.0
        self.finite = True

    def forward(self, t: Time, y: State) -> State:
        dy = self.field(t.to(y.dtype), y)
        self.finite = bool(torch.isfinite(dy).all())
        return dy

    def callback_accept_step(self, t0: Time, y0: State, dt: Time) -> None:
        self.accepted += 1
        self._note(t0, y0, dt)

    def callback_reject_step(self, t0: Time, y0: State, dt: Time) -> None:
        self.rejected += 1
        self._note(t0, y0, dt)

    @torch.no_grad()
    def _note(self, t0: Time, y0: State, dt: Time) -> None:
        self.t, self.size, self.dt = float(t0), float(rms(y0)), float(dt)
