"""Consistency models: the end of the path, the fixed point of a known teacher, jumps, teachers, and runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField, broadcast_time
from ode_runner.integrator import Integrator
from ode_runner.models.generator import Generator, sample_noise
from ode_runner.models.generators.consistency import Consistency, Jump, LearnedJump, levels_at
from ode_runner.models.generators.predicted_field import GuidedField
from ode_runner.models.generators.rescaled_field import rescaled
from ode_runner.objectives.consistency import ConsistencyTraining
from ode_runner.paths.denoising_field import ConsistencyField
from ode_runner.paths.named import path_named
from ode_runner.paths.variance_exploding import VarianceExploding
from ode_runner.tasks.densities.gaussian_mixture import GaussianMixture
from ode_runner.types import State, Time
from tests.helpers import check_refused, run_folder, run_folders, typed
from tests.models.test_path_models import SMALL, TOLD, batch_of, integrator, model_of, records_of
from tests.problems import Compose, build
from tests.resuming import check_resumed_exactly

STD = 0.5
NORMAL = GaussianMixture(path_named("vp"), means=torch.zeros(1, 2, dtype=torch.float64), std=STD)
COMMAND = (*SMALL, "model=consistency")


class ClosedFlow(VectorField):
    """Where the probability flow of N(0, STD^2 I) takes a state, times a factor that is 1 where it is right."""

    batched_time = True

    def __init__(self, path: VarianceExploding, factor: float) -> None:
        super().__init__()
        self.path, self.factor = path, factor

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        variance = STD**2 + self.path.sigma(broadcast_time(t, y)).square()
        return self.factor * y * ((STD**2 + self.path.sigma_min**2) / variance).sqrt()


def taught(composed: Compose, factor: float = 1.0, **options: Any) -> Consistency:
    """A model that has learned from the field of one normal distribution, but for the factor."""
    spec = TaskSpec(input_shape=(2,), output_shape=(2,), field=NORMAL)
    model: Consistency = model_of(composed, "consistency", spec, teacher="exact", **options)
    for function in (model.field, model.follower):
        function.inner = ClosedFlow(model.levels_path, factor)
    return model


def loss_of(model: Consistency, data: Tensor, composed: Compose) -> float:
    made = ConsistencyTraining().loss(model, None, batch_of(data), integrator(composed))  # type: ignore[arg-type]
    return float(made.total.detach())


@pytest.mark.usefixtures("float64")
def test_at_the_end_of_the_path_a_state_is_its_own_data(composed: Compose) -> None:
    model, x = model_of(composed, "consistency"), torch.randn(20, 2)
    assert torch.equal(model.field.jump(torch.tensor(0.0), x), x)
    assert torch.equal(model.field.jump(torch.zeros(20), x), x)
    assert not torch.allclose(model.field.jump(torch.tensor(0.5), x), x)
    high, low = model.neighbours(torch.tensor([0.0, 0.999999]))
    assert low[0] == 0
    assert high[1] == pytest.approx(1)


class Recorded(VectorField):
    """Notes what it is told."""

    batched_time = True

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Tensor] = []

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        self.told = [t, y]
        return y


@pytest.mark.usefixtures("float64")
def test_the_network_is_told_a_quarter_of_log_rho_and_states_of_unit_spread() -> None:
    path, inner, t = VarianceExploding(sigma_min=0.02, sigma_max=80.0), Recorded(), torch.tensor([0.0, 0.3, 1.0])
    rho = 0.02 * (80.0 / 0.02) ** t[:, None]
    Jump(inner, path=path, data_std=STD)(t, (STD**2 + rho**2).sqrt() * torch.ones(3, 2))
    told, state = inner.told
    torch.testing.assert_close(told.flatten(), rho.log().flatten() / 4)
    torch.testing.assert_close(state, torch.ones(3, 2))


def test_defaults_depend_on_whether_there_is_a_teacher(composed: Compose) -> None:
    alone, with_teacher = model_of(composed, "consistency"), taught(composed)
    assert (alone.levels, alone.target_decay) == (80, 0.0)
    assert (with_teacher.levels, with_teacher.target_decay) == (18, 0.95)


@pytest.mark.usefixtures("float64")
def test_the_fixed_point_of_a_known_teacher_is_its_flow(composed: Compose) -> None:
    """The loss falls with the third power of the distance of levels, squared; of one that is off, it does not."""
    data, found = STD * torch.randn(400, 2), {}
    for levels in (20, 40, 80):
        found[levels] = loss_of(taught(composed, levels=levels).eval(), data, composed)
    assert found[20] > 30 * found[40] > 900 * found[80]
    assert found[80] < 1e-8
    drifting = taught(composed, levels=80).eval()
    drifting.field.inner = ClosedFlow(drifting.levels_path, 1.1)
    assert loss_of(drifting, data, composed) > 1e6 * found[80]


@pytest.mark.usefixtures("float64")
def test_without_a_teacher_both_neighbours_have_the_same_noise(composed: Compose) -> None:
    """One point of data: the function that takes everything there is consistent."""

    class ToPoint(VectorField):
        batched_time = True

        def forward(self, t: Time, y: State, *given: Tensor) -> State:
            return torch.ones_like(y)

    model = model_of(composed, "consistency").eval()
    assert loss_of(model, torch.ones(30, 2), composed) > 1e-4
    for function in (model.field, model.follower):
        function.inner = ToPoint()
    assert loss_of(model, torch.ones(30, 2), composed) == 0


def test_levels_grow_from_two_to_the_last_and_the_target_follows(composed: Compose) -> None:
    counts = [levels_at(place / 10, 80) for place in range(11)]
    assert (counts[0], counts[-1]) == (2, 80)
    assert counts == sorted(counts)
    model = model_of(composed, "consistency", target_decay=0.9)
    [weight, *_], [followed, *_] = model.field.parameters(), model.follower.parameters()
    with torch.no_grad():
        weight += 1
    model.begin_step(1.0)
    assert model.level_count == 80
    torch.testing.assert_close(followed - (weight - 1), torch.full_like(followed, 0.1), rtol=1e-3, atol=1e-6)
    assert not followed.requires_grad


@pytest.mark.parametrize(("steps", "grid"), [(1, "karras"), (2, "karras"), (2, "logsnr"), (4, "quadratic")])
def test_jumps_of_the_exact_function_end_at_the_data(composed: Compose, steps: int, grid: str) -> None:
    """From rho = 80 to 0.02, of N(0, STD^2 I): were noise left in after the last jump, the spread would be larger."""
    path = VarianceExploding(sigma_min=0.02, sigma_max=80.0)
    field: ConsistencyField = LearnedJump(ClosedFlow(path, 1.0), path=path)
    solver = build(composed, "solver", "consistency", num_steps=steps, grid=grid)
    bound = Integrator(solver=solver, gradient=integrator(composed).gradient)
    generator = Generator(field=field, shape=(2,), start=1.0, end=0.0)
    found = generator.generate(sample_noise(0, torch.arange(2000)), bound, times=2, dtype=torch.float64)[-1]
    assert float(found.std()) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("name", ["vp", "linear"])
def test_a_rescaled_field_has_the_ways_of_the_first_in_other_units(name: Any, composed: Compose) -> None:
    field = GaussianMixture(path_named(name), means=NORMAL.means + 1, std=STD)
    other = rescaled(field, VarianceExploding(sigma_min=0.01, sigma_max=20.0))
    t, u = (field.path.time_of_rho(torch.tensor(rho, dtype=torch.float64)) for rho in (10.0, 0.05))
    at, to = (other.path.time_of_rho(torch.tensor(rho, dtype=torch.float64)) for rho in (10.0, 0.05))
    x, integrate = torch.randn(6, 2, dtype=torch.float64), integrator(composed, tolerance=1e-10)
    own = integrate(field, x, torch.stack([t, u])).ys[-1] / field.path.alpha(u)
    found = integrate(other, x / field.path.alpha(t), torch.stack([at, to])).ys[-1]
    torch.testing.assert_close(found, own, rtol=1e-7, atol=1e-7)
    times = torch.stack([at, to])
    together = other.denoise(times, x[:2])
    torch.testing.assert_close(together, torch.cat([other.denoise(s, y[None]) for s, y in zip(times, x, strict=False)]))


def test_a_guided_teacher_counts_twice(composed: Compose) -> None:
    model, bound = model_of(composed, "flow_matching", TOLD), integrator(composed)
    guided = rescaled(GuidedField(model.field, scale=2.0), VarianceExploding(sigma_min=0.02, sigma_max=10.0))
    with torch.no_grad():
        bound.evaluate(guided, torch.tensor(0.5), torch.zeros(4, 2), given=[torch.eye(3)[torch.arange(4) % 3]])
    assert bound.ledger.tally.evaluations == 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("solver=dopri5",), "takes noise to data in one step. Use solver=consistency solver.num_steps=1"),
        (("solver=ddim",), "takes noise to data in one step"),
        (("model=flow_matching", "solver=consistency"), "such as that of model=consistency"),
        (("model.teacher=exact", "task.name=moons"), "model.teacher=exact needs a task whose density is known"),
        (("model.teacher=outputs/none",), "is no run folder"),
        (("model.levels=1",), "model.levels must be 2 at least"),
        (("model.rho_min=20",), "below model.rho_max"),
        (("model.target_decay=1",), "less than 1"),
        (("model.huber=0",), "model.huber must be above 0"),
        (("task=half_moons",), "gives samples only"),
    ],
    ids=" ".join,
)
def test_what_cannot_mean_anything_is_refused_in_a_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    own = COMMAND if "task=half_moons" not in words else ("model=consistency",)
    check_refused(*own, *words, sentence=sentence, cwd=tmp_path)


def test_a_run_is_sampled_in_one_step_and_in_several_and_counts_its_teacher(tmp_path: Path) -> None:
    for words in (("solver.num_steps=1",), ("solver.num_steps=3",)):
        assert typed(*COMMAND, "model.teacher=exact", *words, cwd=tmp_path).returncode == 0
    one, several = sorted(records_of(tmp_path), key=lambda record: record["config"]["solver"]["num_steps"])
    assert one["training"] == several["training"]
    assert one["cost"]["nfe_forward"] == 4
    assert (one["metrics"]["nfe/sample"], several["metrics"]["nfe/sample"]) == (1, 3)
    assert "test/nll" not in one["metrics"]
    assert "test/endpoint_rmse" in one["metrics"], "to the ends of the teacher's ways"
    assert "teacher" in one["measured_with"]["test/endpoint_rmse"]
    assert "test/endpoint_rmse" not in several["metrics"], "noise is drawn on the way"
    assert {"test/sw2", "test/sw2_teacher"} <= one["metrics"].keys()
    assert "best_epoch" not in one["cost"], "the last weights are taken, for the loss says nothing"


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    check_resumed_exactly((*COMMAND, "trainer.log_every=4"), tmp_path, step=13)


@pytest.mark.slow
def test_what_the_teacher_has_learned_is_part_of_who_learns_from_it(tmp_path: Path) -> None:
    told = (*SMALL, "task.conditional=true", "solver=euler", "model=flow_matching")
    assert typed(*told, cwd=tmp_path).returncode == 0
    [folder] = run_folders(tmp_path)
    student = (*SMALL, "task.conditional=true", "model=consistency", f"model.teacher={folder}")
    ended = typed(*student, cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    taught_once = next(record for record in records_of(tmp_path) if record["choices"]["model"] == "consistency")
    teacher = json.loads((folder / "record.json").read_text())
    assert taught_once["contents"] == {"model.teacher": f"{teacher['training']}-s0"}
    assert "already completed" in typed(*student, cwd=tmp_path).stdout
    [own] = [path for path in run_folders(tmp_path) if path != folder]
    evaluated = typed(f"evaluate={own}", "solver.num_steps=2", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    moved = folder.rename(tmp_path / "moved")
    again = (*student[:-1], f"model.teacher={moved}")
    assert "already completed" in typed(*again, cwd=tmp_path).stdout, "the same teacher in another place"
    other = typed(*SMALL, "model=consistency", f"model.teacher={moved}", cwd=tmp_path)
    assert other.returncode == 2
    assert "has learned from task.conditional=true, and this task has false" in other.stderr


def test_what_draws_samples_alone_says_how_to_ask_for_them(tmp_path: Path) -> None:
    """It was said to have blocks, and no time between them."""
    assert typed(*SMALL, "model=consistency", "trainer.max_steps=1", "pictures=false", cwd=tmp_path).returncode == 0
    asked = typed(f"predict={run_folder(tmp_path)}", cwd=tmp_path)
    assert asked.returncode == 2
    assert "model=consistency draws samples, and gives no answers to inputs. Type how many: samples=4." in asked.stderr
