"""A task of one's own that gives something else than a task gives is refused by the name of its method."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.experiment.task_contract import check_spec, checked_batch, checked_figures
from ode_runner.experiment.unpaired_targets import sentence_on_targets
from ode_runner.objectives.base import Loss
from ode_runner.tasks.base import Task
from ode_runner.tasks.classification import Classification, Samples
from tests.helpers import record_of, typed

CPU = torch.device("cpu")
QUICK = ("trainer.epochs=1", "trainer.batch_size=10", "logger=none", "pictures=false")


class Faulty(Task):
    """Squares of two numbers, with one fault, by its name."""

    objective: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, fault: str, seed: int, device: torch.device) -> None:
        del seed, device
        self.fault = fault
        self.x = torch.linspace(-1, 1, 40).reshape(20, 2)
        if fault != "no spec":
            shape: Any = 2 if fault == "a number as shape" else (2,)
            self.spec = TaskSpec(input_shape=shape, output_shape=(2,))

    def size(self, split: Split) -> int:
        return len(self.x)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Any]:
        x = self.x[:0] if self.fault == "empty" and split is Split.VALIDATION else self.x
        ts: Any = [0.0, 1.0] if self.fault == "a list of times" else torch.tensor([0.0, 1.0])
        if self.fault != "no batch":
            batch = Batch(x, ts, x.square())
            yield from [tuple(batch) if self.fault == "a tuple" else batch] * (2 if self.fault == "as its size" else 1)

    def loss(self, outputs: Outputs, batch: Batch) -> Any:
        error = (outputs.values - batch.targets).square()
        return error.mean(dim=1) if self.fault == "a loss of each" else error.mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> Any:
        mse = (outputs.values - batch.targets).square().mean()
        faults: dict[str, Any] = {
            "a metric of each": {"rmse": outputs.values[:, 0]},
            "a list of metrics": [mse],
            "no objective": {"mse": mse},
            "loss as a metric": {"rmse": mse, "loss": mse},
        }
        return faults.get(self.fault, {"rmse": mse})

    def reported(self, means: Any) -> dict[str, float]:
        return (
            {name: value**0.5 for name, value in means.items() if name == "rmse"} if self.fault == "" else dict(means)
        )


def tried(fault: str, root: Path) -> Any:
    (root / "conf" / "task").mkdir(parents=True)
    choice = f"_target_: {__name__}.Faulty\nfault: '{fault}'\n"
    (root / "conf" / "task" / "faulty.yaml").write_text(choice)
    return typed("-cd", "conf", "task=faulty", *QUICK, cwd=root)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no spec", "Faulty has no `spec`."),
        ("a number as shape", "Write input_shape=(2,), say."),
        ("no batch", "Faulty.batches gave no batch to learn from"),
        ("a tuple", "Faulty.batches gave a tuple"),
        ("a list of times", "Faulty.batches: ts is a list."),
        ("empty", "the validation split of Faulty is empty"),
        ("a loss of each", "the loss of a batch is of shape (20,)"),
        ("a metric of each", "Faulty.metrics: 'rmse' is of shape (20,)."),
        ("a list of metrics", "Faulty.metrics gave a list"),
        ("no objective", "Name one of these: mse, loss."),
        ("loss as a metric", "Faulty.metrics: 'loss' is the name of a number of every run."),
    ],
)
def test_what_a_task_gives_wrongly_is_refused_by_name(fault: str, said: str, tmp_path: Path) -> None:
    ended = tried(fault, tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_loss_is_reported_also_where_a_task_leaves_it_out(tmp_path: Path) -> None:
    ended = tried("", tmp_path)
    assert ended.returncode == 0, ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["test/rmse"] == pytest.approx(metrics["test/loss"] ** 0.5)


def test_a_size_that_is_not_that_of_an_epoch_is_told(tmp_path: Path) -> None:
    said = "an epoch has 1 batches, and by Faulty.size (20 samples) it is 2: "
    for fault, told in (("", True), ("as its size", False)):
        ended = tried(fault, tmp_path / str(told))
        assert ended.returncode == 0, ended.stderr
        assert (said in ended.stdout + ended.stderr) is told


@pytest.mark.parametrize(
    ("inputs", "targets", "said"),
    [
        (torch.zeros(3, 2), torch.zeros(2).long(), "has 3 inputs and 2 targets"),
        (torch.zeros(3, 2), torch.zeros(3), "targets are torch.float32, and numbers of classes int64: targets.long"),
        (torch.zeros(3, 2).numpy(), torch.zeros(3).long(), "inputs are a ndarray. Make a tensor of it"),
    ],
)
def test_samples_of_classes_are_as_many_as_their_numbers(inputs: Any, targets: Tensor, said: str) -> None:
    with pytest.raises(RefusedInput, match=f"the train split of Classification.* {said}"):
        Classification(dict.fromkeys(Split, Samples(inputs, targets)), seed=0, device=CPU)
    one = Samples(torch.zeros(1, 2), torch.zeros(1).long())
    with pytest.raises(RefusedInput, match="the test split of Classification is missing: a task gives Samples"):
        Classification({Split.TRAIN: one, Split.VALIDATION: one}, seed=0, device=CPU)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (torch.tensor([1, 2, 2]), r"targets go from 1 to 2, and the 2 classes of spec.output_shape = \(2,\)"),
        (torch.tensor([-1, 0, 0]), "targets go from -1 to 0"),
        (torch.zeros(3, 1).long(), r"targets are of shape \(3, 1\), and a class of each sample is \(3,\)"),
        (torch.eye(3, 2).long(), r"targets.argmax\(dim=1\) if they are one-hot"),
        (torch.tensor([0, 1, 1]), None),
    ],
)
def test_classes_are_counted_from_zero_one_for_each_sample(targets: Tensor, said: str | None) -> None:
    task = Classification(dict.fromkeys(Split, Samples(torch.zeros(3, 2), targets)), seed=0, device=CPU)
    task.spec = TaskSpec(input_shape=(2,), output_shape=(2,))
    with nullcontext() if said is None else pytest.raises(RefusedInput, match=f"the train split of .*{said}"):
        check_spec(task)


def test_inputs_that_are_not_finite_are_refused_by_number() -> None:
    inputs = torch.zeros(3, 2)
    inputs[1, 0] = torch.nan
    task = Classification(dict.fromkeys(Split, Samples(inputs, torch.tensor([0, 1, 1]))), seed=0, device=CPU)
    for blanks in (True, False):
        task.spec = TaskSpec(input_shape=(2,), output_shape=(2,), blanks=blanks)
        said = r"inputs have NaN or infinity in 1 of 3 samples, the first of them number 1 \(from 0\)"
        with nullcontext() if blanks else pytest.raises(RefusedInput, match=said):
            check_spec(task)


@pytest.mark.parametrize("found", [object(), [object()], [("a name", 1, 2)], [(1, object())]])
def test_pictures_have_names(found: Any) -> None:
    with pytest.raises(RefusedInput, match='Faulty.figures gave a .*: yield "errors", figure'):
        list(checked_figures(Faulty(fault="", seed=0, device=CPU), found))


@pytest.mark.parametrize(
    ("squeezes", "targets", "told"), [(False, (20,), True), (False, (20, 1), False), (True, (20,), False)]
)
def test_a_loss_of_all_pairs_is_told(squeezes: bool, targets: tuple[int, ...], told: bool) -> None:
    """A difference of (batch, 1) and (batch,) is (batch, batch): every output beside every target."""
    task = Faulty(fault="", seed=0, device=CPU)
    values = torch.linspace(0, 1, 20)[:, None]
    if squeezes:  # a loss that takes the shapes into account
        task.loss = lambda outputs, batch: (outputs.values[:, 0] - batch.targets).square().mean()  # type: ignore[method-assign]
    batch = Batch(task.x, torch.tensor([0.0, 1.0]), torch.linspace(-1, 2, 20).reshape(targets))
    found = sentence_on_targets(task, batch, Loss(torch.zeros(()), outputs=Outputs(values)))
    assert ("their difference is (20, 20). Give targets of shape (20, 1)." in found) is told
    assert bool(found) is told


def test_numbers_of_numpy_are_no_batch() -> None:
    x: Any = torch.zeros(2, 2).numpy()
    with pytest.raises(RefusedInput, match=r"inputs is a numpy\.ndarray"):
        checked_batch(Faulty(fault="", seed=0, device=torch.device("cpu")), Batch(x, Tensor(), Tensor()))
