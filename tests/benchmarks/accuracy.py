"""Seconds of training until 98 % on the test set, from the same weights on the same images."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ode_runner.batch import Split
from ode_runner.experiment.signals import StopRequest
from tests.benchmarks.measure import Contender, our_contender, plain_contender
from tests.benchmarks.ours import as_dataset, make_trainer, samples, under_plain_names
from tests.benchmarks.plain import PlainLoop, PlainODENet, plain_loader

GOAL, STRIDE, LIMIT = 0.98, 100, 1300  # test accuracy; steps between evaluations; about three epochs


@dataclass
class Course:
    """Training so far; evaluations on the test set do not count into `seconds`."""

    seconds: float = 0.0
    steps: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)  # steps, seconds, accuracy

    @property
    def reached(self) -> bool:
        return bool(self.curve) and self.curve[-1][2] >= GOAL

    def go_on(self, contender: Contender) -> None:
        for _ in range(STRIDE):
            self.seconds += contender.sample().seconds
        self.steps += STRIDE


def race(data_dir: Path, mnist: Path, device: torch.device) -> dict[str, Course]:
    """Both in turn, a stride each, until both are there or out of steps."""
    trainer = make_trainer(data_dir, device, "model=odenet")
    model = PlainODENet()
    model.load_state_dict(under_plain_names(trainer.model.state_dict()))
    loop = PlainLoop(model, plain_loader(as_dataset(trainer, mnist), trainer.options.batch_size), device)
    test = samples(trainer, Split.TEST)
    images = test.inputs.float() / 255
    contenders = {"ours": our_contender(trainer), "plain": plain_contender(loop)}
    judges = {
        "ours": lambda: trainer.experiment.evaluate(Split.TEST, StopRequest())["accuracy"],
        "plain": lambda: loop.accuracy(images, test.targets),
    }
    courses = {name: Course() for name in contenders}
    while unfinished := [name for name, course in courses.items() if not course.reached and course.steps < LIMIT]:
        for name in unfinished:
            course = courses[name]
            course.go_on(contenders[name])
            course.curve.append((course.steps, course.seconds, judges[name]()))
            print(f"... {name}: {course.curve[-1][2]:.2%} after {course.steps} steps", file=sys.stderr, flush=True)
    return courses
