"""Our side of the comparison: trainers as `ode-run` builds them, and their tensors under the plain models' names."""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torchvision.datasets import MNIST

from ode_runner.batch import Batch, Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.config.help import conf_dir
from ode_runner.tasks.classification import Samples
from ode_runner.tasks.images.idx import FILES
from ode_runner.training.schedules import RateScheduler
from ode_runner.training.trainer import Trainer

BATCH_SIZE = 128


def make_trainer(data_dir: Path, device: torch.device, *overrides: str) -> Trainer:
    """MNIST with the defaults of the yaml files, but for the batch of the paper's script and for `overrides`."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        wanted = ["task=mnist", f"trainer.batch_size={BATCH_SIZE}", f"trainer.device={device.type}", *overrides]
        cfg = compose("config", overrides=wanted, return_hydra_config=True)
    cfg.task.data_dir = str(data_dir)
    return build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))


def endless(trainer: Trainer) -> Iterator[Batch]:
    """The task's training batches, epoch after epoch; the last, smaller one of an epoch is left out."""
    size = trainer.options.batch_size
    for epoch in itertools.count():
        batches = trainer.task.batches(Split.TRAIN, batch_size=size, epoch=epoch)
        yield from (batch for batch in batches if len(batch.targets) == size)


def train(trainer: Trainer, steps: int) -> None:
    """Towards weights for which the field is no longer trivial."""
    for batch in itertools.islice(endless(trainer), steps):
        trainer.train_step(batch, measure_memory=False)


def freeze(optimizer: torch.optim.Optimizer) -> None:
    """Updates cost what they did and change nothing, so that every step solves the same ODE."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0


def freeze_ours(trainer: Trainer) -> None:
    """`freeze`, and the schedule that sets the learning rate anew at every step."""
    freeze(trainer.optimizer)
    assert isinstance(trainer.schedule, RateScheduler)
    trainer.schedule.base_lrs = [0.0] * len(trainer.schedule.base_lrs)


def samples(trainer: Trainer, split: Split) -> Samples:
    """The stored tensors of a split."""
    return trainer.task.splits[split]  # type: ignore[attr-defined]  # a Classification


def as_dataset(trainer: Trainer, folder: Path) -> MNIST:
    """The same training images as torchvision's dataset hands them out: one by one."""
    dataset = _FlatMNIST(str(folder))
    stored = samples(trainer, Split.TRAIN)
    dataset.data, dataset.targets = stored.inputs[:, 0].cpu(), stored.targets.cpu()
    return dataset


def under_plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights or gradients of ours as the plain model names and shapes them: the time channel comes first."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".time_weight"):
            continue
        time_weight = tensors.get(name.removesuffix("weight") + "time_weight")
        if time_weight is not None and name.endswith(".weight"):
            tensor = torch.cat([time_weight, tensor], dim=1)
        name = re.sub(r"norms\.(\d)", lambda match: f"norm{int(match[1]) + 1}", name)
        name = re.sub(r"convolutions\.(\d)", lambda match: f"conv{int(match[1]) + 1}", name)
        renamed[name] = tensor
    return renamed


def find_mnist(data_dir: Path) -> Path | None:
    """The folder with the four files, where the task looks for them; unlike the task, downloads nothing."""
    wanted = [name for names in FILES.values() for name in names]
    for folder in (data_dir, data_dir / "raw", data_dir / "MNIST" / "raw"):
        if all((folder / name).is_file() for name in wanted):
            return folder
    return None


class _FlatMNIST(MNIST):
    """torchvision's dataset on a folder that holds the files themselves."""

    @property
    def raw_folder(self) -> str:
        return str(self.root)
