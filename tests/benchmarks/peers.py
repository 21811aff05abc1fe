"""`make bench-peers`: a training step of flow matching beside torchcfm's, on the same network and batch.

Both take their steps on one thread, in turn; seconds are of CPU. torchcfm is in an environment of its own, for it is no
dependency of ours. Our step clips the gradient, follows a schedule and accounts for what it measures; theirs does none
of that.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from ode_runner.batch import Split
from ode_runner.config.garbage import sparing_collector
from tests.benchmarks.path_models import built

NETWORK = ("network=mlp", "network.width=128", "network.depth=3")
COUPLINGS = ("independent", "minibatch_ot")
STEPS, PAIRS = 1000, 3


def main() -> int:
    theirs = Path(sys.argv[1])  # the python of their environment
    torch.set_num_threads(1)
    for coupling in COUPLINGS:
        ratios = []
        for _ in range(PAIRS):
            ours, parameters = our_seconds(coupling)
            peer = their_seconds(theirs, coupling)
            assert peer["parameters"] == parameters, "both train the same network"
            ratios.append(ours / peer["seconds"])
            print(f"{coupling}: {1e3 * ours / STEPS:.2f} ms a step, torchcfm {1e3 * peer['seconds'] / STEPS:.2f} ms")
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{coupling}: {middle:.2f} of torchcfm's time, from {least:.2f} to {most:.2f}")
    return 0


def our_seconds(coupling: str) -> tuple[float, int]:
    """Of CPU for the steps, and the number of parameters."""
    experiment, trainer = built(*NETWORK, f"model.coupling={coupling}")
    batches = list(experiment.task.batches(Split.TRAIN, batch_size=trainer.options.batch_size, epoch=0))
    with sparing_collector():  # as a run is
        for batch in batches[: STEPS // 10]:
            trainer.train_step(batch, measure_memory=False)
        begun = time.process_time()
        for step in range(STEPS):
            trainer.train_step(batches[step % len(batches)], measure_memory=False)
        seconds = time.process_time() - begun
    return seconds, sum(p.numel() for p in experiment.parameters())


def their_seconds(python: Path, coupling: str) -> dict[str, float]:
    """The same of torchcfm's loop, by the python of its environment."""
    script = Path(__file__).with_name("peer_torchcfm.py")
    told = subprocess.run([python, script, coupling, str(STEPS)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(told.stdout)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
