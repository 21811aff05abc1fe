"""What compiled solves are worth to fields of other operations than tanh: a training step with and without.

One process, one step of each in turn, by dopri5 at 1e-3 to ten times; machine code is made anew.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.field import VectorField
from ode_runner.solvers.explicit.dopri5 import Dopri5
from tests.benchmarks.clock import add_pairs
from tests.benchmarks.compiled_rows import measured, print_anew

DOPRI5 = Dopri5(rtol=1e-3, atol=1e-3, max_steps=1000)
HEADINGS = ("field", "states", "eager", "compiled", "times as fast", "compiled in")


class Layers(VectorField):
    """Layers one after another."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        del t
        return self.layers(y)


class Attention(VectorField):
    """A layer normalisation and attention with one head, on states (batch, positions, features)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(features), nn.Linear(features, 3 * features)
        self.outer = nn.Linear(features, features)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        del t
        q, k, v = self.inner(self.norm(y)).chunk(3, dim=-1)
        return self.outer((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v)


class Stencil(VectorField):
    """Two convolutions along a line, as of a partial differential equation, on states (batch, points)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv1d(1, channels, 3, padding=1), nn.Conv1d(channels, 1, 3, padding=1)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        del t
        return self.outer(F.gelu(self.inner(y[:, None])))[:, 0]


CASES: Mapping[str, tuple[Callable[[], VectorField], tuple[int, ...]]] = {
    "2-64-64-2 with GELU": (
        lambda: Layers(nn.Linear(2, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 2)),
        (100, 2),
    ),
    "16-64-16 with SiLU": (lambda: Layers(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 16)), (128, 16)),
    "16-64-16 with ELU": (lambda: Layers(nn.Linear(16, 64), nn.ELU(), nn.Linear(64, 16)), (128, 16)),
    "32-128-32 with layer norm and GELU": (
        lambda: Layers(nn.LayerNorm(32), nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32)),
        (256, 32),
    ),
    "attention": (lambda: Attention(8), (32, 8, 8)),
    "attention, larger": (lambda: Attention(32), (64, 16, 32)),
    "convolutions of 8 channels": (lambda: Stencil(8), (16, 32)),
    "convolutions, larger": (lambda: Stencil(8), (128, 32)),
}


def main() -> int:
    """0: done; 1: a gradient is another one compiled."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compiled_operations", description=__doc__)
    add_pairs(parser, default=20, of="steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    return print_anew(HEADINGS, (partial(row_of, name, pairs=options.pairs) for name in CASES))


def row_of(name: str, *, pairs: int) -> tuple[str, ...]:
    """A row of the table.

    Raises:
        BenchmarkFailed: the two gradients differ.
    """
    make, shape = CASES[name]
    torch.manual_seed(0)
    took, seconds = measured(DOPRI5, make(), torch.randn(shape), name, pairs=pairs)
    return (
        *(name, " x ".join(map(str, shape)), f"{1e3 * took.first:.1f} ms", f"{1e3 * took.second:.2f} ms"),
        *(f"{took.ratio:.2f} [{took.low:.2f}, {took.high:.2f}]", f"{seconds:.1f} s"),
    )


if __name__ == "__main__":
    sys.exit(main())
