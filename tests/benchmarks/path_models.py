"""`make bench`: flow matching in the plane, 4,000 training steps of 256, and 10,000 samples by 16 steps of Heun's.

Seconds of CPU of one process on one thread: a training step as a run takes it, logging and files apart.
"""

import statistics
import time
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.config.help import conf_dir
from ode_runner.experiment.experiment import Experiment
from ode_runner.training.trainer import Trainer

CELL = ("task=density2d", "task.name=8gaussians_narrow", "model=flow_matching", "solver=heun", "solver.num_steps=16")
STEPS, SAMPLES, AT_ONCE, REPEATS = 4000, 10_000, 1000, 5


def main() -> int:
    torch.set_num_threads(1)
    experiment, trainer = built()
    batches = list(experiment.task.batches(Split.TRAIN, batch_size=trainer.options.batch_size, epoch=0))

    def train() -> None:
        for batch in batches:
            trainer.train_step(batch, measure_memory=False)

    def sample() -> None:
        experiment.model.eval()
        with torch.no_grad():
            for numbers in torch.arange(SAMPLES).split(AT_ONCE):
                experiment.generate(numbers)

    print(f"{STEPS:,} training steps: {timed(train) * STEPS / len(batches):.1f} s")
    print(f"{SAMPLES:,} samples of 32 evaluations: {timed(sample):.2f} s")
    return 0


def built(*changed: str) -> tuple[Experiment, Trainer]:
    """The cell of the benchmark, with options changed, and fresh weights."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[*CELL, *changed, "logger=none"], return_hydra_config=True)
        choices = dict(cfg.hydra.runtime.choices)
        experiment = build_experiment(cfg, choices)
        trainer = build_trainer(cfg, choices, experiment)
    assert trainer is not None
    return experiment, trainer


def timed(function: Callable[[], None]) -> float:
    """Seconds of CPU, the median of several times after one that warms up."""
    function()
    seconds = []
    for _ in range(REPEATS):
        begun = time.process_time()
        function()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
