"""`make bench-peers`: a training step of flow matching beside torchcfm's, on the same network and batch.

Both take short blocks of steps in turn, in one process on one thread, so that a slow minute hits both alike; seconds
are of CPU. torchcfm is in an environment of its own, for it is no dependency of ours. Our step clips the gradient,
follows a schedule and accounts for what it measures; theirs does none of that.
"""

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ode_runner.batch import Split
from ode_runner.config.garbage_collection import sparing_collector
from tests.benchmarks.clock import add_pairs, quartiles
from tests.benchmarks.path_models import built
from tests.benchmarks.peer_torchcfm import MATCHERS, TorchCFM
from tests.benchmarks.report import describe

NETWORK = ("network=mlp", "network.width=128", "network.depth=3")
OUTPUTS, STEPS, WARMUP = Path("outputs/bench"), 15, 50  # steps of a block


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    add_pairs(parser, default=100, of="blocks of each")
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    date, samples = datetime.datetime.now().astimezone(), {}
    for coupling in MATCHERS:
        ours, theirs = samples[coupling] = compared(coupling, pairs)
        low, middle, high = quartiles(ours, theirs)
        ms, theirs_ms = (1e3 * statistics.median(seconds) for seconds in (ours, theirs))
        print(f"{coupling}: {ms:.2f} ms a step, torchcfm {theirs_ms:.2f} ms")
        print(f"{coupling}: {middle:.3f} of torchcfm's time, half of {pairs} pairs from {low:.3f} to {high:.3f}")
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    path = OUTPUTS / f"peers-{date:%Y-%m-%d-%H%M%S}.json"
    content = {"environment": describe(torch.device("cpu")), "seconds a step, ours and theirs": samples}
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"Every sample: {path}")
    return 0


def compared(coupling: str, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of CPU a step, ours and theirs, pair by pair; who goes first changes from pair to pair."""
    experiment, trainer = built(*NETWORK, f"model.coupling={coupling}")
    batches = list(experiment.task.batches(Split.TRAIN, batch_size=trainer.options.batch_size, epoch=0))
    peer = TorchCFM(coupling, torch.cat([batch.inputs for batch in batches]))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (experiment.model, peer.model)]
    assert sizes[0] == sizes[1], "both train the same network"

    def ours(steps: int) -> None:
        for step in range(steps):
            trainer.train_step(batches[step], measure_memory=False)

    sides = [ours, peer.train]
    seconds: tuple[list[float], list[float]] = ([], [])
    for side in sides:
        side(WARMUP)
    with sparing_collector():  # as a run is
        for pair in range(pairs):
            for place in (0, 1) if pair % 2 else (1, 0):
                seconds[place].append(timed(sides[place]))
    return seconds


def timed(train: Callable[[int], None]) -> float:
    """Seconds of CPU of a step, the mean over a block."""
    begun = time.process_time()
    train(STEPS)
    return (time.process_time() - begun) / STEPS


if __name__ == "__main__":
    raise SystemExit(main())
