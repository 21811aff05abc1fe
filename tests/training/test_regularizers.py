"""Regularisers: a price changes training by its weight and in no other way, and its gradient is right in every mode."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ode_runner.batch import Batch, Outputs, Split
from ode_runner.build import build_experiment
from ode_runner.building.members import members
from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.field import VectorField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.models.depth.odenet import ODENet
from ode_runner.objectives.base import Loss, Objective
from ode_runner.objectives.regularized import Regularized
from ode_runner.objectives.regularized_solves import RegularizedSolves
from ode_runner.objectives.supervised import Supervised
from ode_runner.problem import Solution
from ode_runner.recording.record import RunRecord
from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.kinetic import Kinetic
from ode_runner.types import State
from tests.conftest import Compose
from tests.helpers import TINY, options, record_of, rows_of, run_folder, run_folders, typed
from tests.problems import build

QUICK = ("trainer=quick", "trainer.max_steps=3", "trainer.log_every=1", "logger=none", *TINY)

OWN = """
import torch

from ode_runner.regularizers.base import Regularizer


class Later(Regularizer):
    \"\"\"The end of a solve is drawn at random.\"\"\"

    def __init__(self, *, weight: float, half_width: float):
        super().__init__(weight=weight)
        self.half_width = half_width

    def last_time(self, ts):
        moved = ts.clone()
        moved[-1] += self.half_width * (2 * torch.rand(()) - 1)
        return moved


class Decay(Regularizer):
    needs_solve = False

    def penalty(self, model):
        return sum(p.square().sum() for p in model.parameters())
"""


SMALL_TASKS = (
    "half_moons",
    "tiny_table",
    "lotka_volterra",
    "density2d",
    "sequence_sort",
    "series_classes",
    "ou",
    "pairs",
)
PAIRS = [(model, regularizer) for model in options("model") for regularizer in options("regularizer")]
QUICK_PAIRS = {("galerkin", "taylor"), ("second_order", "rnode"), ("exact", "spectral"), ("augmented", "steer")}


class Still(VectorField):
    """dy/dt = c, whatever y is."""

    def forward(self, t: Any, y: Any) -> Any:
        return torch.tensor([3.0, 4.0], dtype=y.dtype).expand_as(y)


class Turning(VectorField):
    """dy/dt is y turned by a right angle, and twice as long."""

    def forward(self, t: Any, y: Any) -> Any:
        return 2 * torch.stack([-y[:, 1], y[:, 0]], dim=1)


def kinetic(y0: State) -> dict[str, Integral]:
    return {"kinetic": Kinetic(weight=1.0).integral(y0, training=True)}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_regularizers.py").write_text(OWN)
    folder = tmp_path / "conf" / "regularizer"
    folder.mkdir(parents=True)
    for name, its_options in (("later", "weight: 0\nhalf_width: 0.25\n"), ("decay", "weight: 0.01\n")):
        head = f"# @package regularizer.{name}\n# Mine.\n_target_: own_regularizers.{name.title()}\n"
        (folder / f"{name}.yaml").write_text(head + its_options)
    return tmp_path


def made(composed: Compose, *words: str) -> Experiment:
    cfg = composed("trainer.precision=fp64", *TINY, *words)
    return build_experiment(cfg, cfg.hydra.runtime.choices)


def gradient(experiment: Experiment) -> torch.Tensor:
    """Of the loss of one batch, by all parameters."""
    experiment.model.train()
    batch = next(experiment.task.batches(Split.TRAIN, batch_size=8, epoch=0)).to(torch.float64)
    total = experiment.loss(batch).total
    return torch.cat([part.flatten() for part in torch.autograd.grad(total, experiment.parameters())])


@pytest.mark.parametrize("span", [(0.0, 2.0), (2.0, 0.0)], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("solver", "options", "tolerance"),
    [
        ("rk4", {"num_steps": 100, "step_size": None}, 1e-6),
        ("dopri5", {"rtol": 1e-9, "atol": 1e-9}, 1e-6),
        ("reversible_heun", {"num_steps": 200, "step_size": None}, 1e-3),
    ],
)
def test_kinetic_energy_of_paths_in_closed_form(
    solver: str, options: dict[str, Any], tolerance: float, span: tuple[float, float], composed: Compose
) -> None:
    integrate = Integrator(solver=build(composed, "solver", solver, **options), gradient=Backprop())
    y0 = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    ts = torch.tensor(span, dtype=torch.float64)
    for field, expected in ((Still(), 25 / 2 * 2), (Turning(), 4 * (1 + 9) / 2 / 2 * 2)):
        along = RegularizedSolves(integrate, kinetic)
        along(field, y0, ts)
        assert float(along.sums["kinetic"]) == pytest.approx(expected, rel=tolerance)


def test_prices_of_several_solves_are_summed_and_the_model_sees_none_of_them(composed: Compose) -> None:
    integrate = Integrator(solver=build(composed, "solver", "rk4"), gradient=Backprop())
    along = RegularizedSolves(integrate, kinetic)
    y0, ts = torch.ones(3, 2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    length = Integral(lambda t, y, dy, vjp: dy.norm(dim=1), judged=False)
    solutions = [along(Still(), y0, ts, integrals={"length": length}) for _ in range(2)]
    assert [list(solution.integrals) for solution in solutions] == [["length"]] * 2
    assert float(solutions[0].integrals["length"][-1, 0]) == pytest.approx(5)
    assert float(along.sums["kinetic"]) == pytest.approx(25)
    with pytest.raises(RefusedInput, match="may not have the name"):
        along(Still(), y0, ts, integrals={"kinetic": length})


def test_the_gradient_of_a_price_is_that_of_finite_differences(composed: Compose) -> None:
    experiment = made(composed, "regularizer=kinetic", "regularizer.kinetic.weight=5", "solver=rk4")
    found, parameters = gradient(experiment), experiment.parameters()
    batch = next(experiment.task.batches(Split.TRAIN, batch_size=8, epoch=0)).to(torch.float64)
    step, differences = 1e-6, []
    with torch.no_grad():
        for parameter in parameters:
            flat = parameter.view(-1)
            losses = []
            for sign in (1, -2, 1):
                flat[0] += sign * step
                losses.append(float(experiment.loss(batch).total))
            differences.append((losses[0] - losses[1]) / (2 * step))
    firsts = [0, *torch.tensor([p.numel() for p in parameters]).cumsum(0)[:-1].tolist()]
    torch.testing.assert_close(found[firsts], torch.tensor(differences, dtype=torch.float64), rtol=1e-5, atol=1e-8)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("mode", "solver", "tolerance"),
    [
        ("checkpoint", "rk4", 1e-12),
        ("checkpoint", "dopri5", 1e-12),
        ("symplectic", "dopri5", 1e-12),
        ("forward", "rk4", 1e-12),
        ("reversible", "alf", 1e-10),
        ("adjoint", "dopri5", 1e-4),
        ("seminorm", "dopri5", 1e-4),
        ("interpolated", "dopri5", 1e-4),
    ],
)
def test_the_gradient_of_a_price_is_right_in_every_mode(
    mode: str, solver: str, tolerance: float, composed: Compose
) -> None:
    words = (f"solver={solver}", *(["tolerance=1e-7"] if solver == "dopri5" else []))
    priced = ("regularizer=kinetic", "regularizer.kinetic.weight=5")
    expected, plain = gradient(made(composed, *words, *priced)), gradient(made(composed, *words))
    found = gradient(made(composed, *words, *priced, f"gradient={mode}"))
    assert float((expected - plain).norm() / plain.norm()) > 0.1, "the price matters"
    assert float((found - expected).norm() / expected.norm()) < tolerance


def test_a_price_changes_training_by_its_weight_and_takes_no_step_more(tmp_path: Path) -> None:
    rows, weights = {}, ("none", "0", "10")
    for weight in weights:
        words = () if weight == "none" else ("regularizer=kinetic", f"regularizer.kinetic.weight={weight}")
        folder = tmp_path / weight
        folder.mkdir()
        ended = typed(*words, *QUICK, cwd=folder)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        rows[weight] = [row for row in rows_of(run_folder(folder)) if "train/loss" in row]
    for one, zero, ten in zip(*(rows[weight] for weight in weights), strict=True):
        assert one["train/loss"] == zero["train/loss"] == zero["loss/task"]
        assert one["solver/accepted"] == zero["solver/accepted"]
        assert one["nfe/forward"] == zero["nfe/forward"]
        assert ten["train/loss"] == pytest.approx(ten["loss/task"] + 10 * ten["loss/kinetic"])
        assert zero["loss/kinetic"] > 0
    assert rows["10"][-1]["loss/kinetic"] < rows["0"][-1]["loss/kinetic"]
    assert rows["10"][-1]["train/loss"] != rows["0"][-1]["train/loss"]
    records = {weight: record_of(tmp_path / weight) for weight in weights}
    for weight in ("0", "10"):
        metrics = records[weight]["metrics"]
        assert metrics["test/kinetic"] > 0
        assert not any(name.startswith("test/loss/") for name in metrics), "off in the test, and reported"
    assert records["none"]["metrics"]["test/loss"] == records["0"]["metrics"]["test/loss"]
    assert len({record["fingerprint"] for record in records.values()}) == 3
    folder = run_folder(tmp_path / "10")
    assert folder.name.startswith("odenet-dopri5-backprop-kinetic-")


def test_several_are_chosen_at_once_by_the_keys_of_the_configuration(own: Path) -> None:
    for names in ("[kinetic,later,decay]", "[later,decay,kinetic]"):
        ended = typed("-cd", "conf", f"regularizer={names}", *QUICK, cwd=own)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    record = RunRecord.read(run_folder(own))  # of one run, whatever their order
    assert record is not None
    assert record.choices["regularizer"] == "decay+kinetic+later"
    assert record.hyperparameters()["with.regularizer.later.half_width"] == 0.25
    assert record.config["regularizer"].keys() == {"kinetic", "later", "decay"}
    row = rows_of(run_folder(own))[0]
    assert row["train/loss"] == pytest.approx(row["loss/task"] + 0.02 * row["loss/kinetic"] + 0.01 * row["loss/decay"])
    assert "loss/later" not in row, "it has no price"


def test_what_a_model_without_a_solve_cannot_use_is_left_out_and_said(own: Path) -> None:
    for names, choice in (("kinetic", "-"), ("[kinetic,decay]", "decay"), ("[decay]", "decay")):
        ended = typed("-cd", "conf", "model=resnet", f"regularizer={names}", *QUICK, cwd=own)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ("nor regularizer" in ended.stdout) == (choice == "-")
        assert ("model=resnet does not use regularizer=kinetic\n" in ended.stdout) == (names == "[kinetic,decay]")
    ended = typed("-cd", "conf", "model=resnet", *QUICK, cwd=own)
    assert "already completed" in ended.stdout, "with none is the same run as with one that is not used"
    assert sorted(record["regularizer"] for record in map(choices_of, run_folders(own))) == ["-", "decay"]


def choices_of(folder: Path) -> dict[str, str]:
    record = RunRecord.read(folder)
    assert record is not None
    return record.choices


def test_an_end_drawn_at_random_is_for_training_alone() -> None:
    asked: list[float] = []

    class Later(Regularizer):
        def last_time(self, ts: Any) -> Any:
            return torch.cat([ts[:-1], ts[-1:] + 1])

    class Asking(Objective[Any]):
        def loss(self, model: Any, task: Any, batch: Any, integrate: Any) -> Loss:
            integrate(None, batch.inputs, batch.ts)
            return Loss(torch.zeros(()))

    def integrate(field: Any, y0: Any, ts: Any, **named: Any) -> Any:
        asked.append(float(ts[-1]))
        return Solution(ys=torch.stack([y0, y0]))

    objective, model = Regularized(Asking(), {"later": Later(weight=0.0)}), torch.nn.Linear(1, 1)
    batch = Batch(torch.ones(2, 1), torch.tensor([0.0, 1.0]), torch.zeros(2))
    for training in (True, False):
        objective.loss(model.train(training), None, batch, integrate)  # type: ignore[arg-type]
    assert asked == [2.0, 1.0]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("regularizer=kinetik",), "no regularizer named 'kinetik'. Did you mean 'kinetic'?"),
        (("regularizer=kinetic", "regularizer.kinetic.weight=-1"), "regularizer.kinetic.weight must be 0 or more"),
        (
            ("regularizer=kinetic", "regularizer.kinetic.weight=heavy"),
            "regularizer.kinetic.weight=heavy is no number",
        ),
        (("regularizer=kinetic", "solver=implicit_adams"), "regularizer=kinetic is an integral along the solve."),
        (
            ("regularizer=kinetic", "trainer.compile=on", "solver=kvaerno3", "trainer.device=cpu"),
            "implicit steps along which something is integrated (kinetic) have no compiled form",
        ),
        (("regularizer=kinetic", "regularizer.kinetic=1"), "regularizer.kinetic=1 is typed in place of its options."),
        (("regularizer.kinetic.weight=1",), "It belongs to regularizer=kinetic."),
        (("~regularizer",), "Type regularizer=none for no regularizer."),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_refused_in_a_line(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = typed(*words, *QUICK, cwd=tmp_path)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_yaml_that_does_not_say_its_place_is_refused(own: Path) -> None:
    (own / "conf" / "regularizer" / "plain.yaml").write_text("_target_: own_regularizers.Decay\nweight: 1\n")
    ended = typed("-cd", "conf", "regularizer=plain", *QUICK, cwd=own)
    assert ended.returncode == 2
    assert "its first line is '# @package regularizer.NAME'" in ended.stderr


def test_records_of_before_there_was_a_choice_have_none(tmp_path: Path) -> None:
    typed(*QUICK, cwd=tmp_path)
    folder = run_folder(tmp_path)
    record = RunRecord.read(folder)
    assert record is not None
    old = replace(record, choices={axis: choice for axis, choice in record.choices.items() if axis != "regularizer"})
    del old.config["regularizer"]
    old.write(folder)
    assert choices_of(folder)["regularizer"] == "none"
    assert "already completed" in typed(*QUICK, cwd=tmp_path).stdout


def test_a_task_may_ask_for_costs_along_the_way(composed: Compose) -> None:
    fine = build(composed, "solver", "rk4", num_steps=100, step_size=None)
    integrate = Integrator(solver=fine, gradient=Backprop())
    cost = Integral(lambda t, y, dy, vjp: y.square().sum(dim=1), judged=True)
    task = SimpleNamespace(running_costs=lambda: {"squares": cost}, loss=lambda outputs, batch: outputs.values.sum())
    y0, ts = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64)
    batch = Batch(y0, ts, y0, weights={"squares": 0.5})

    def model(inputs: Any, ts: Any, integrate: Any) -> Outputs:
        return Outputs(integrate(Turning(), Encoding(inputs), ts).ys[-1])

    loss = Supervised().loss(model, task, batch, integrate)  # type: ignore[arg-type]
    assert float(loss.terms["squares"]) == pytest.approx(2 * (1 + 9) / 2, rel=1e-6)
    assert float(loss.total) == pytest.approx(float(loss.terms["task"]) + 0.5 * float(loss.terms["squares"]))
    with pytest.raises(RefusedInput, match="asks for costs along the way"):
        Supervised().loss(lambda *asked: Outputs(y0), task, batch, integrate)  # type: ignore[arg-type]


def test_the_default_price_is_that_of_the_yaml(composed: Compose) -> None:
    cfg = composed("regularizer=kinetic")
    assert cfg.regularizer.kinetic.weight == 0.02
    assert math.isclose(made(composed, "regularizer=kinetic").objective.regularizers["kinetic"].weight, 0.02)
    assert isinstance(made(composed).objective, Supervised)
    assert ODENet.objective.solves


@pytest.mark.parametrize(
    ("model", "regularizer"),
    [pytest.param(*pair, marks=() if pair in QUICK_PAIRS else pytest.mark.slow) for pair in PAIRS],
)
def test_every_model_takes_a_regularizer_or_refuses_it(model: str, regularizer: str, tmp_path: Path) -> None:
    """In single precision, of which a time is a number without a dimension: some rules of torch's make it double."""
    tasks, answers = members("task"), members("model")[model].answers()
    enough = {name: [needs for needs in (tasks[name].needs, tasks[name].suffices) if needs] for name in SMALL_TASKS}
    task = next(name for name in SMALL_TASKS if any(needs <= answers for needs in enough[name]))
    words = (f"task={task}", f"model={model}", f"regularizer={regularizer}", "trainer.max_steps=1", "logger=none")
    ended = typed(*words, *TINY, cwd=tmp_path)
    if ended.returncode == 2:
        assert ended.stderr.count("\n") == 1
    else:
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
        assert record_of(tmp_path)["status"] == "completed"
