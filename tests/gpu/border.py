"""Up to which size a step is faster on the CPU than on the GPU: the rule of `trainer.device=auto`, measured.

A training step of an ODE-Net on the plane, `dopri5` at 1e-3 with backpropagation, for layers and batches of several
sizes, on the CPU and, eager and captured, on the GPU.
"""

import argparse
import json
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from ode_runner.build import build_experiment, build_trainer
from ode_runner.config.help import conf_dir
from ode_runner.experiment.operation_work import flops_per_operation
from ode_runner.training.prepare_compiled import compile_training
from ode_runner.training.trainer import Trainer
from tests.benchmarks.ours import endless, freeze_ours, train
from tests.gpu.measured import seconds_a_step

SIZES = [*((width, 128) for width in (16, 64, 128, 256, 512, 1024)), *((width, 1024) for width in (16, 64, 128, 256))]
WAYS = {"cpu": ("cpu", "off"), "eager": ("cuda", "off"), "captured": ("cuda", "on")}
STEPS = 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.border", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try whether it runs")
    parser.add_argument("--most", type=int, default=len(SIZES), help="so many of the sizes")
    options = parser.parse_args()
    found = []
    for width, batch in SIZES[: options.most]:
        row: dict[str, float] = {"width": width, "batch": batch}
        for way, (device, how) in WAYS.items():
            if device == "cuda" and options.device == "cpu":
                continue
            trainer = _trainer(width, batch, device, how)
            row |= {"work": flops_per_operation(trainer.experiment), f"{way}_milliseconds": _milliseconds(trainer)}
        found.append(row)
        print("  ".join(f"{key} {value:,.2f}" for key, value in row.items()), flush=True)
        options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return 0


def _trainer(width: int, batch: int, device: str, how: str) -> Trainer:
    words = (f"network.width={width}", f"task.train={STEPS * batch}", f"trainer.batch_size={batch}")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        wanted = ["task=half_moons", *words, f"trainer.device={device}", f"trainer.compile={how}", "logger=none"]
        cfg = compose("config", overrides=wanted, return_hydra_config=True)
    trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
    assert trainer is not None
    return trainer


def _milliseconds(trainer: Trainer) -> float:
    train(trainer, 8)
    freeze_ours(trainer)
    trainer.compiled = compile_training(trainer.forward, steps=1, processes=1, say=print)
    batches: list[Any] = list(islice(endless(trainer), STEPS))
    return 1000 * seconds_a_step(partial(trainer.train_step, measure_memory=False), batches, trainer.device)


if __name__ == "__main__":
    sys.exit(main())
