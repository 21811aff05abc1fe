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

from ode_runner.training.prepare_compiled import FEWEST_STEPS, compile_training
from ode_runner.training.trainer import Trainer
from tests.benchmarks.measure import now
from tests.benchmarks.ours import endless, find_mnist, freeze_ours, make_trainer, train

RK4 = ["solver=rk4", "solver.num_steps=5"]
MODELS = {
    "dopri5": ["solver=dopri5"],
    "dopri5, checkpoint": ["solver=dopri5", "gradient=checkpoint"],
    "dopri5, adjoint": ["solver=dopri5", "gradient=adjoint"],
    "rk4": RK4,
    "ResNet": ["model=resnet"],
}
WAYS = {
    "eager": ["trainer.compile=off"],
    "captured": ["trainer.compile=on"],
    "fused": ["trainer.compile=on"],  # captured, and fields and blocks compiled: of a training that is long
}
USUAL = [
    *(f"{model}, tf32, {way}" for model in ("rk4", "dopri5", "ResNet") for way in WAYS),
    *(f"{model}, fp32, {way}" for model in ("rk4", "dopri5", "ResNet") for way in ("eager", "captured")),
    *("dopri5, checkpoint, tf32, captured", "dopri5, adjoint, fp32, eager"),
    *("rk4, bf16, captured", "rk4, bf16, fused"),
]
STEPS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.profile", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("ODE_RUN_DATA") or "data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", nargs="*", default=[], help="cells, such as 'rk4, tf32, captured' (default: the usual)"
    )
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    mnist = find_mnist(options.data_dir)
    if mnist is None:
        print(f"profile: no MNIST in {options.data_dir}", file=sys.stderr)
        return 2
    found: dict[str, dict[str, float]] = {}
    for name in options.only or USUAL:
        found[name] = profiled(mnist, cells()[name], fuses=name.endswith("fused"), batch=options.batch)
        print(f"{name:32} " + "  ".join(f"{key} {value:,.1f}" for key, value in found[name].items()), flush=True)
        options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return 0


def cells() -> dict[str, list[str]]:
    """What can be profiled, by name: model, precision, way."""
    return {
        f"{model}, {precision}, {way}": [*chosen, f"trainer.precision={precision}", *how]
        for model, chosen in MODELS.items()
        for precision in ("fp32", "tf32", "bf16")
        for way, how in WAYS.items()
    }


def profiled(mnist: Path, overrides: list[str], *, fuses: bool, batch: int) -> dict[str, float]:
    """Of a step, weights held still: milliseconds, those in which kernels run, launches and waits."""
    trainer = make_trainer(mnist, torch.device("cuda"), "model=odenet", f"trainer.batch_size={batch}", *overrides)
    train(trainer, 20)
    freeze_ours(trainer)
    begun = now(trainer.device)
    steps = FEWEST_STEPS if fuses else 1
    trainer.compiled = compile_training(trainer.forward, steps=steps, processes=1, say=print)
    made = now(trainer.device) - begun
    batches = list(islice(endless(trainer), STEPS))
    seconds, evaluations = _in_a_row(trainer, batches)
    kernels, launches = _of_kernels(trainer, batches)
    return {
        "milliseconds": 1000 * seconds,
        "kernel_milliseconds": kernels,
        "launches": launches,
        "synchronisations": _synchronisations(lambda: trainer.train_step(batches[0], measure_memory=False)),
        "evaluations": evaluations,
        "made_in_seconds": made,
    }


def _in_a_row(trainer: Trainer, batches: list[Any]) -> tuple[float, float]:
    """Seconds a step where steps follow each other as in training, the median of five rows; and evaluations."""
    evaluations, rows = 0.0, []
    for _ in range(6):
        begun = now(trainer.device)
        for batch in batches:
            found = trainer.train_step(batch, measure_memory=False)
        rows.append((now(trainer.device) - begun) / len(batches))
        evaluations = float(found["nfe/forward"])
    return statistics.median(rows[1:]), evaluations


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
