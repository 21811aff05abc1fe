"""The steps of one revision, timed on request: `tests.benchmarks.compare` runs one such process a revision.

It is started by its file's name inside a checkout of the revision, which `PYTHONPATH` names, and imports that
revision's benchmark problems. It prints its rows, one a line and then an empty one, and answers every line
`row<TAB>steps` with the seconds of CPU that those steps took, on one thread. What a row needs is made when it is first
asked for.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks import ours, solving
from tests.benchmarks.problems import Posed

Step = Callable[[], object]
Maker = Callable[[], Step]


def main() -> None:
    """Until its input ends."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    makers, steps = {**solves(), **trainings(Path(os.environ["ODE_RUN_DATA"]))}, dict[str, Step]()
    for row in makers:
        print(row)
    print(flush=True)
    for line in sys.stdin:
        row, times = line.rstrip("\n").split("\t")
        if row not in steps:
            steps[row] = makers[row]()
        begun = time.process_time()
        for _ in range(int(times)):
            steps[row]()
        print(time.process_time() - begun, flush=True)


def solves() -> dict[str, Maker]:
    """What makes a training step through every solve of the other benchmark, also with compiled steps."""
    makers: dict[str, Maker] = {}
    for name, case in solving.cases().items():
        for mode in case.modes:
            makers[f"{name}, {mode}"] = partial(_solve, case, mode, compiled=False)
        makers[f"{name}, {case.compiled}, compiled"] = partial(_solve, case, case.compiled, compiled=True)
    return makers


def _solve(case: solving.Case, mode: str, *, compiled: bool) -> Step:
    integrate = solving.Integrator(solver=case.solver, gradient=case.modes[mode])
    if compiled:
        integrate.compile(case.posed.field, case.posed.y0)
    return _step(case.posed, integrate)


def _step(posed: Posed, integrate: Callable[..., Any]) -> Step:
    """A training step at a learning rate of 0. Of revisions before the class Solution a solve returns the states."""
    optimizer = torch.optim.RMSprop(posed.field.parameters(), lr=0.0)

    def step() -> None:
        solution = integrate(posed.field, posed.y0, posed.ts)
        loss = posed.loss(solution if isinstance(solution, Tensor) else solution.ys)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def trainings(data_dir: Path) -> dict[str, Maker]:
    """What makes whole training steps as the trainer takes them, at a learning rate of 0; none without MNIST."""
    mnist = ours.find_mnist(data_dir)
    return {f"mnist, {model}": partial(_training, mnist, model) for model in ("odenet", "resnet") if mnist}


def _training(mnist: Path, model: str) -> Step:
    trainer = ours.make_trainer(mnist, torch.device("cpu"), f"model={model}")
    ours.train(trainer, 5)
    ours.freeze_ours(trainer)
    batches = ours.endless(trainer)
    return lambda: trainer.train_step(next(batches), measure_memory=False)


if __name__ == "__main__":
    main()
