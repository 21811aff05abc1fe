"""Where the time of a training step on a GPU goes: kernels, launches, and waits of the processor for the GPU."""

import argparse
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ode_runner.training.trainer import Trainer
from tests.benchmarks.measure import now
from tests.benchmarks.ours import endless, find_mnist, freeze_ours, make_trainer, train

CELLS = {
    "dopri5, backprop": ["solver=dopri5"],
    "dopri5, adjoint": ["solver=dopri5", "gradient=adjoint"],
    "dopri5, checkpoint": ["solver=dopri5", "gradient=checkpoint"],
    "rk4, backprop": ["solver=rk4", "solver.num_steps=5"],
    "ResNet": ["model=resnet"],
    "dopri5, backprop, bf16": ["solver=dopri5", "trainer.precision=bf16"],
}
STEPS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.profile", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("ODE_RUN_DATA") or "data"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    mnist = find_mnist(options.data_dir)
    if mnist is None:
        print(f"profile: no MNIST in {options.data_dir}", file=sys.stderr)
        return 2
    found = {name: profiled(mnist, overrides) for name, overrides in CELLS.items()}
    for name, numbers in found.items():
        print(f"{name:24} " + "  ".join(f"{key} {value:,.1f}" for key, value in numbers.items()))
    options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return 0


def profiled(mnist: Path, overrides: list[str]) -> dict[str, float]:
    """Of a step, weights held still: milliseconds (median), those in which kernels run, launches and waits."""
    trainer = make_trainer(mnist, torch.device("cuda"), "model=odenet", *overrides)
    train(trainer, 20)
    freeze_ours(trainer)
    batches = list(islice(endless(trainer), STEPS))
    times, evaluations = [], 0.0
    for batch in batches:
        begun = now(trainer.device)
        evaluations = trainer.train_step(batch, measure_memory=False).get("nfe/forward", 0.0)
        times.append(1000 * (now(trainer.device) - begun))
    kernels, launches = _of_kernels(trainer, batches)
    return {
        "milliseconds": statistics.median(times),
        "kernel_milliseconds": kernels,
        "launches": launches,
        "synchronisations": _synchronisations(lambda: trainer.train_step(batches[0], measure_memory=False)),
        "evaluations": evaluations,
    }


def _of_kernels(trainer: Trainer, batches: list[Any]) -> tuple[float, float]:
    """Milliseconds of a step in which kernels run, and how many there are."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for batch in batches:
            trainer.train_step(batch, measure_memory=False)
        torch.cuda.synchronize()
    events = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(event.device_time for event in events) / 1000 / len(batches), len(events) / len(batches)


def _synchronisations(step: Callable[[], object]) -> float:
    """How often a step waits for the GPU, as torch warns of it."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return float(sum("synchroniz" in str(warning.message) for warning in caught))


if __name__ == "__main__":
    sys.exit(main())
