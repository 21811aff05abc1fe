"""A training step of `model=ode_transformer`, and of a plain loop on torch's own `TransformerEncoder`, in turn.

Sorting, batch 128, two blocks of width 64 and 4 heads, feed-forward parts of 128 units, normalisation first, AdamW
under one-cycle, gradients clipped. Both make their batch, go forward and back, and take a step; both hold as many
layers of the same shapes. Torch's has biases of queries, keys and values besides.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import Batch, Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.config.help import conf_dir
from ode_runner.training.trainer import Trainer
from tests.benchmarks.clock import InTurn
from tests.benchmarks.ours import endless

WIDTH, HEADS, HIDDEN, BLOCKS, BATCH, SYMBOLS, RATE = 64, 4, 128, 2, 128, 24, 0.004
LENGTHS = {16: 40, 256: 6}  # positions, and steps of each that are timed
WARMUP = 2


class Plain(nn.Module):
    """Embedding, learned positions, torch's layers, a last normalisation and an affine map."""

    def __init__(self, length: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.tokens, self.positions = nn.Embedding(SYMBOLS, WIDTH), nn.Parameter(torch.randn(length, WIDTH))
        self.layers = nn.TransformerEncoder(layer, BLOCKS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.last = nn.Linear(WIDTH, SYMBOLS)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.layers(self.tokens(tokens) + self.positions))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.transformer", description=__doc__)
    parser.parse_args()
    torch.set_num_threads(1)
    for length, pairs in LENGTHS.items():
        torch.manual_seed(0)
        trainer = make_trainer(length)
        ours, theirs = partial(_our_step, trainer, endless(trainer)), plain_step(trainer, length)
        took = InTurn.of(ours, theirs, pairs=pairs, warmup=WARMUP)
        times = f"{1e3 * took.first:.1f} and {1e3 * took.second:.1f} ms"
        print(f"n = {length}: {times}, {took.ratio:.2f} times [{took.low:.2f}, {took.high:.2f}]", flush=True)
    return 0


def make_trainer(length: int) -> Trainer:
    """As `ode-run` builds it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        wanted = [
            *("task=sequence_sort", f"task.length={length}", f"task.symbols={SYMBOLS}", "task.train=2560"),
            *("model=ode_transformer", f"model.depth={BLOCKS}", f"network.width={WIDTH}", f"network.heads={HEADS}"),
            *(f"network.expansion={HIDDEN // WIDTH}", f"trainer.batch_size={BATCH}", "trainer.device=cpu"),
            *("trainer.epochs=100", f"optimizer.lr={RATE}"),
        ]
        cfg = compose("config", overrides=wanted, return_hydra_config=True)
    return build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))


def plain_step(trainer: Trainer, length: int) -> Callable[[], None]:
    """A step as one would write it, on the same stored sequences."""
    model = Plain(length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=10_000)
    stored = trainer.task.splits[Split.TRAIN]  # type: ignore[attr-defined]  # a Classification

    def step() -> None:
        chosen = torch.randint(len(stored.inputs), (BATCH,))
        loss = F.cross_entropy(model(stored.inputs[chosen]).flatten(0, 1), stored.targets[chosen].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    return step


def _our_step(trainer: Trainer, batches: Iterator[Batch]) -> None:
    trainer.train_step(next(batches), measure_memory=False)


if __name__ == "__main__":
    sys.exit(main())
