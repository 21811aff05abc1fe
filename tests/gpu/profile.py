"""Where the time of a training step on a GPU goes: kernels, launches, and waits of the processor for the GPU."""

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torchdiffeq
from torch.nn import functional as F

from ode_runner.training.prepare_compiled import FEWEST_FUSED, compile_training
from ode_runner.training.trainer import Trainer
from tests.benchmarks import plain
from tests.benchmarks.measure import now
from tests.benchmarks.ours import endless, find_mnist, freeze_ours, make_trainer, train, under_plain_names
from tests.gpu.measured import kernels, seconds_a_step, synchronisations

RK4 = ["solver=rk4", "solver.num_steps=5"]
MODELS = {
    "dopri5": ["solver=dopri5"],
    "dopri5, checkpoint": ["solver=dopri5", "gradient=checkpoint"],
    "dopri5, adjoint": ["solver=dopri5", "gradient=adjoint"],
    "rk4": RK4,
    "ResNet": ["model=resnet"],
    "attention by rk4": ["network=transformer", *RK4],  # images in patches
    "ode_transformer": ["network=transformer", "model=ode_transformer"],
}
ATTENTION = ("attention by rk4", "ode_transformer")
WAYS = {
    "eager": "off",
    "captured": "on",
    "fused": "on",  # captured, and fields and blocks compiled: of a training that is long
    "channels last": "on",  # captured, the channels of images and weights side by side in memory
}
PEERS = {"plain backprop": torchdiffeq.odeint, "plain adjoint": torchdiffeq.odeint_adjoint}  # loops on its public API
MAIN = ("rk4", "dopri5", "ResNet")
KINDS = ("tf32", "bf16")
USUAL = [  # what is to be known first comes first, for a limit may end the list anywhere
    *(f"{model}, {kind}, captured, 128" for model in MAIN for kind in KINDS),
    *(f"{model}, {kind}, captured, 128" for model in ATTENTION for kind in KINDS),
    *(f"rk4, {kind}, channels last, {batch}" for batch in (128, 1024) for kind in KINDS),
    *(f"{model}, {kind}, captured, 1024" for model in ("rk4", "dopri5") for kind in KINDS),
    "plain backprop, tf32, eager, 128",
    *(f"{model}, tf32, eager, 128" for model in (*MAIN, *ATTENTION)),
    *(f"dopri5, {mode}, tf32, captured, 128" for mode in ("checkpoint", "adjoint")),
    *(f"rk4, {kind}, captured, {batch}" for kind, batch in (("fp16", 128), ("fp32", 128), ("fp32", 1024))),
    *(f"{model}, {kind}, fused, 128" for model in MAIN for kind in KINDS),
    *(f"rk4, {kind}, fused, 1024" for kind in KINDS),
    *(f"{model}, bf16, eager, 128" for model in (*MAIN, *ATTENTION)),
    *(f"dopri5, {mode}, tf32, eager, 128" for mode in ("checkpoint", "adjoint")),
    *(f"rk4, {kind}, eager, 1024" for kind in KINDS),
    *("dopri5, fp32, captured, 128", *(f"{model}, fp32, eager, 128" for model in ("rk4", "dopri5"))),
    *("plain adjoint, tf32, eager, 128", *(f"{peer}, fp32, eager, 128" for peer in PEERS)),
    *(f"{peer}, tf32, eager, 1024" for peer in PEERS),
]
STEPS = 10
PLANNED = 3  # rows of steps, after which those of adaptive solves are planned


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.profile", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("ODE_RUN_DATA") or "data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try whether it runs")
    parser.add_argument(
        "--only", nargs="*", default=[], help="cells, such as 'rk4, tf32, captured, 128' (default: the usual)"
    )
    options = parser.parse_args()
    mnist = find_mnist(options.data_dir)
    if mnist is None:
        print(f"profile: no MNIST in {options.data_dir}", file=sys.stderr)
        return 2
    found: dict[str, dict[str, float] | str] = {}
    for name in options.only or USUAL:
        try:
            found[name] = profiled(mnist, name, torch.device(options.device))
        except Exception as error:  # the other cells are worth having
            found[name] = f"{type(error).__name__}: {error}"
        gc.collect()  # graphs hold their memory as long as they live
        print(f"{name:36} {_shown(found[name])}", flush=True)
        options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return 0


def profiled(mnist: Path, name: str, device: torch.device) -> dict[str, float]:
    """Of a step, weights held still: milliseconds, those in which kernels run, launches and waits."""
    what, precision, way, batch = name.rsplit(", ", 3)
    if what in PEERS:
        step, batches, made = _peer(PEERS[what], precision, mnist, device, int(batch))
    else:
        step, batches, made = _ours(MODELS[what], precision, way, mnist, device, int(batch))
    seconds, evaluations = seconds_a_step(step, batches, device), step(batches[0])
    busy, launches = kernels(step, batches, device)
    return {
        "milliseconds": 1000 * seconds,
        "kernel_milliseconds": busy,
        "launches": launches,
        "synchronisations": synchronisations(lambda: step(batches[0])),
        "evaluations": evaluations,
        "samples_per_second": int(batch) / seconds,
        "made_in_seconds": made,
    }


Made = tuple[Callable[[Any], float], list[Any], float]  # a step that returns its evaluations, batches, seconds


def _ours(chosen: list[str], precision: str, way: str, mnist: Path, device: torch.device, batch: int) -> Made:
    options = (f"trainer.precision={precision}", f"trainer.compile={WAYS[way]}", f"trainer.batch_size={batch}")
    trainer = make_trainer(mnist, device, "model=odenet", *chosen, *options)
    if way == "channels last":
        trainer.model.to(memory_format=torch.channels_last)
    train(trainer, 20)
    freeze_ours(trainer)
    begun = now(device)
    steps = FEWEST_FUSED if way == "fused" else 1
    trainer.compiled = compile_training(trainer.forward, steps=steps, processes=1, say=print)
    batches = list(islice(endless(trainer), STEPS))
    for one in PLANNED * batches:
        _step(trainer, one)
    return partial(_step, trainer), batches, now(device) - begun


def _step(trainer: Trainer, batch: Any) -> float:
    return float(trainer.train_step(batch, measure_memory=False)["nfe/forward"])


def _peer(solve: Callable[..., Any], precision: str, mnist: Path, device: torch.device, batch: int) -> Made:
    """The plain loop, on batches that are on the GPU: what its DataLoader takes is left out."""
    options = ("model=odenet", f"trainer.precision={precision}", f"trainer.batch_size={batch}")
    trainer = make_trainer(mnist, device, *options)
    train(trainer, 20)
    batches = list(islice(endless(trainer), STEPS))
    model = plain.PlainODENet()
    model.load_state_dict(under_plain_names(trainer.model.state_dict()))
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step(batch: Any) -> float:
        model.field.evaluations = 0
        optimizer.zero_grad()
        with patch.object(plain, "odeint", solve):
            outputs = model(batch.inputs)
        evaluations = model.field.evaluations
        F.cross_entropy(outputs, batch.targets).backward()
        optimizer.step()
        return float(evaluations)

    return step, batches, 0.0


def _shown(found: dict[str, float] | str) -> str:
    return found if isinstance(found, str) else "  ".join(f"{key} {value:,.1f}" for key, value in found.items())


if __name__ == "__main__":
    sys.exit(main())
