"""diffrax's side of `make bench-peers`: a training step through one of its solves, compiled as a whole, on one thread.

Forward, loss, backward and RMSprop (as torch's, without momentum) are one function under `jax.jit`; weights and sums of
squares are handed back to it. `checkpoints=16` keeps every step of these solves, which is diffrax's fastest way here.
"""

import os

# jax reads them when it first computes. Without NPROC three threads hand a small solve around, at twice the cost.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["NPROC"] = "1"

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.problems import Posed

jax.config.update("jax_cpu_enable_async_dispatch", False)  # computes in the thread that calls, as torch does

Weights = list[jax.Array]
DECAY, EPSILON = 0.99, 1e-8  # of torch.optim.RMSprop
BACKPROP = partial(diffrax.RecursiveCheckpointAdjoint, checkpoints=16)
MOST_STEPS = 1000  # as many as our compiled solves have memory for


class RK4(diffrax.AbstractERK):
    """The classical method, which diffrax does not ship, as a tableau of its own."""

    tableau: ClassVar[diffrax.ButcherTableau] = diffrax.ButcherTableau(
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
        b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        b_error=np.zeros(4),
        c=np.array([0.5, 0.5, 1.0]),
    )
    interpolation_cls: ClassVar[Callable[..., Any]] = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms: Any) -> int:
        return 4


class Counts(NamedTuple):
    """Evaluations of the field on the way there and back, and the times at which steps ended."""

    forward: int
    backward: int
    ends: list[float]


class Diffrax:
    """Training steps that change nothing.

    Args:
        solver: one of fixed step steps from output to output; a pair chooses its steps, by an I controller like ours.
        adjoint: how the solve is differentiated.
    """

    def __init__(self, posed: Posed, solver: diffrax.AbstractERK, adjoint: diffrax.AbstractAdjoint) -> None:
        self.posed, self.solver, self.adjoint = posed, solver, adjoint
        self.y0, self.ts, self.targets = map(_array, (posed.y0, posed.ts, posed.targets))
        self.weights = [_array(p) for p in posed.field.parameters()]
        self.squares = [jnp.zeros_like(p) for p in self.weights]
        self.lr = jnp.zeros(())  # handed over, so that nothing is left out because it is 0
        self._train = jax.jit(self._step)

    def step(self) -> None:
        """Returns when all is computed."""
        self.weights, self.squares, _ = jax.block_until_ready(
            self._train(self.weights, self.squares, self.y0, self.targets, self.lr)
        )

    def gradient(self) -> list[Tensor]:
        """By the field's parameters, as a step has it."""
        found = self._train(self.weights, self.squares, self.y0, self.targets, self.lr)[2]
        return [torch.from_numpy(np.array(part)) for part in found]

    def counted(self) -> Counts:
        """Of one step; by calls from within compiled code."""
        calls: list[None] = []

        def field(t: jax.Array, y: jax.Array, weights: Weights) -> jax.Array:
            jax.debug.callback(lambda: calls.append(None))
            return self._field(t, y, weights)

        along = diffrax.SaveAt(steps=True)
        solve = jax.jit(partial(self._solve, field=field, saveat=along, adjoint=BACKPROP()))
        ends = np.asarray(solve(self.weights, self.y0).ts)
        jax.effects_barrier()
        forward, gradient = len(calls), jax.jit(jax.grad(partial(self._loss, field=field)))
        jax.block_until_ready(gradient(self.weights, self.y0, self.targets))
        jax.effects_barrier()
        return Counts(forward, len(calls) - 2 * forward, [float(t) for t in ends if np.isfinite(t)])

    def _step(
        self, weights: Weights, squares: Weights, y0: jax.Array, targets: jax.Array, lr: jax.Array
    ) -> tuple[Weights, Weights, Weights]:
        gradient = jax.grad(partial(self._loss, field=self._field))(weights, y0, targets)
        squares = [DECAY * v + (1 - DECAY) * g * g for v, g in zip(squares, gradient, strict=True)]
        parts = zip(weights, gradient, squares, strict=True)
        return [p - lr * g / (jnp.sqrt(v) + EPSILON) for p, g, v in parts], squares, gradient

    def _loss(self, weights: Weights, y0: jax.Array, targets: jax.Array, field: Callable[..., jax.Array]) -> jax.Array:
        at_outputs = diffrax.SaveAt(ts=self.ts)
        ys = self._solve(weights, y0, field=field, saveat=at_outputs, adjoint=self.adjoint).ys
        return jnp.abs(ys - targets).mean()

    def _field(self, t: jax.Array, y: jax.Array, weights: Weights) -> jax.Array:
        first, shift, last, offset = weights
        y = y**3 if self.posed.field.cubed else y
        return jnp.tanh(y @ first.T + shift) @ last.T + offset

    def _solve(
        self,
        weights: Weights,
        y0: jax.Array,
        *,
        field: Callable[..., jax.Array],
        saveat: diffrax.SaveAt,
        adjoint: diffrax.AbstractAdjoint,
    ) -> diffrax.Solution:
        tolerance = self.posed.tolerance
        fixed = isinstance(self.solver, RK4)
        control = diffrax.StepTo(ts=self.ts) if fixed else diffrax.PIDController(rtol=tolerance, atol=tolerance)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver,
            t0=self.ts[0],
            t1=self.ts[-1],
            dt0=None,
            y0=y0,
            args=weights,
            saveat=saveat,
            stepsize_controller=control,
            adjoint=adjoint,
            max_steps=MOST_STEPS,
        )


class DiffraxEnsemble:
    """Solves of one equation for many parameters at once, each with steps of its own: `vmap` under `jax.jit`.

    Args:
        field: of t, a state and its parameters.
        y0: (batch, *state).
        parameters: (batch, ...).
        span: the first and the last time.
    """

    def __init__(
        self,
        field: Callable[..., jax.Array],
        y0: Tensor,
        parameters: Tensor,
        *,
        span: Sequence[float],
        tolerance: float,
    ) -> None:
        self.y0, self.parameters = _array(y0), _array(parameters)
        one = partial(_end, field, span=span, tolerance=tolerance)
        self._ends = jax.jit(jax.vmap(one))

    def ends(self) -> Tensor:
        """States at the last time, (batch, *state)."""
        return torch.from_numpy(np.array(self._ends(self.y0, self.parameters)))


def _end(
    field: Callable[..., jax.Array], y0: jax.Array, parameters: jax.Array, *, span: Sequence[float], tolerance: float
) -> jax.Array:
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        t0=span[0],
        t1=span[1],
        dt0=None,
        y0=y0,
        args=parameters,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        adjoint=diffrax.DirectAdjoint(),
        max_steps=MOST_STEPS,
    )
    assert solution.ys is not None
    return solution.ys[-1]


def _array(x: Tensor) -> jax.Array:
    return jnp.asarray(x.detach().numpy())
