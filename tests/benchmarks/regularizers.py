"""`make bench`: a training step on digits with a price on the paths, and one without, in turn.

The convolutional ODE-Net of `task=digits` as `ode-run` builds it, batch 128, dopri5 at 1e-3. Learning rates are 0 and
the weights the same, so both solve the same equation by the same steps, which is checked.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir

from ode_runner.batch import Batch
from ode_runner.build import build_experiment, build_trainer
from ode_runner.config.help import conf_dir
from ode_runner.training.trainer import Trainer
from tests.benchmarks.clock import add_pairs, timed
from tests.benchmarks.measure import Spread
from tests.benchmarks.ours import BATCH_SIZE, endless, freeze_ours

GOALS = {"kinetic": 1.15}  # times a step without
MEASURED = ("kinetic", "jacobian", "rnode", "taylor", "smooth_states", "spectral")
WARMUP = 2


def main() -> int:
    """0: done; 1: steps differ, so that times mean nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.regularizers", description=__doc__)
    add_pairs(parser, default=20, of="steps of each")
    parser.add_argument("--only", nargs="*", default=MEASURED, help="regularisers (default all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plain = trainer("none")
    batches = endless(plain)
    for name in options.only:
        priced = trainer(name)
        if evaluations(plain, batch := next(batches)) != evaluations(priced, batch):
            print(f"bench: with regularizer={name} other steps are taken.", file=sys.stderr)
            return 1
        ratios = [seconds(priced, batch) / seconds(plain, batch) for _ in range(WARMUP + options.pairs)][WARMUP:]
        spread, goal = Spread.of(ratios), f", at most {GOALS[name]} wanted" if name in GOALS else ""
        print(f"{name:<14}{spread.median:.2f} of a step without [{spread.least:.2f}, {spread.most:.2f}]{goal}")
    return 0


def trainer(regularizer: str) -> Trainer:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["task=digits", f"regularizer={regularizer}", f"trainer.batch_size={BATCH_SIZE}", "trainer.device=cpu"]
        cfg = compose("config", overrides=words, return_hydra_config=True)
    made = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
    assert made is not None
    freeze_ours(made)
    return made


def step(made: Trainer, batch: Batch) -> Callable[[], dict[str, float]]:
    return lambda: made.train_step(batch, measure_memory=False)


def evaluations(made: Trainer, batch: Batch) -> float:
    return step(made, batch)()["nfe/forward"]


def seconds(made: Trainer, batch: Batch) -> float:
    """Of the processor, for this process alone."""
    return timed(step(made, batch))


if __name__ == "__main__":
    sys.exit(main())
