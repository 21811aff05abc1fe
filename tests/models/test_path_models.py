"""Flow matching and diffusion: targets, weights, pairs, guidance; the likelihood of a known field; runs."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import ode_runner as ode
from ode_runner.batch import Batch, TaskSpec
from ode_runner.building.instantiate import construct
from ode_runner.field import VectorField, broadcast_time
from ode_runner.fields.ledger import Ledger, Phase
from ode_runner.integrator import Integrator
from ode_runner.models.density_generator import DensityGenerator
from ode_runner.models.generator import sample_noise
from ode_runner.models.generators.flow_matching import FlowMatching, nearest_pairs
from ode_runner.models.generators.path_model import PathModel
from ode_runner.models.generators.predicted_field import GuidedField, PredictedField
from ode_runner.objectives.base import FLOOR
from ode_runner.objectives.path_regression import PathRegression
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.paths.heads import Head, convert
from ode_runner.paths.named import path_named
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.tasks.densities.gaussian_mixture import GaussianMixture
from ode_runner.types import State, Time
from tests.helpers import check_refused, record_of, run_folders, typed
from tests.problems import Compose, build, own_options
from tests.resuming import check_resumed_exactly

PLANE = TaskSpec(input_shape=(2,), output_shape=(2,))
TOLD = TaskSpec(input_shape=(2,), output_shape=(2,), condition=3)
STD = 0.5  # of normal data
SMALL = (
    "task=density2d", "task.name=8gaussians_narrow", "task.train=400", "task.validation=40", "task.test=40",
    "task.grid=20", "trainer.batch_size=40", "trainer.epochs=2", "network.width=8", "logger=none",
)  # fmt: skip


class NormalData(VectorField):
    """What a perfect network predicts where data are N(0, STD^2 I)."""

    batched_time = True

    def __init__(self, path: GaussianPath, head: Head) -> None:
        super().__init__()
        self.path, self.head = path, head

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        time = broadcast_time(t, y)
        alpha, sigma = self.path.alpha(time), self.path.sigma(time)
        variance = alpha.square() * STD**2 + sigma.square()
        data, noise = alpha * STD**2 * y / variance, sigma * y / variance
        if self.head is Head.V:
            return self.path.alpha_dot(time) * data + self.path.sigma_dot(time) * noise
        return {Head.X0: data, Head.EPS: noise, Head.SCORE: -y / variance}[self.head]


def records_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / "record.json").read_text()) for folder in run_folders(root)]


def model_of(composed: Compose, name: str, spec: TaskSpec = PLANE, **options: Any) -> Any:
    torch.manual_seed(0)
    return build(composed, "model", name, build(composed, "network", "mlp", spec, width=8), **options)


def known(composed: Compose, name: str, spec: TaskSpec = PLANE, **options: Any) -> PathModel:
    """A model whose network has been replaced by the perfect one."""
    model: PathModel = model_of(composed, name, spec, **options)
    assert isinstance(model.field, PredictedField)
    model.field.inner = NormalData(model.field.path, model.field.head)
    return model.eval()


def integrator(composed: Compose, mode: str = "backprop", tolerance: float = 1e-9) -> Integrator:
    solver = Dopri5(rtol=tolerance, atol=tolerance, max_steps=10_000)
    return Integrator(solver=solver, gradient=build(composed, "gradient", mode))


def batch_of(data: Tensor) -> Batch:
    return Batch(data, torch.tensor([0.0, 1.0]), data)


def loss_of(model: PathModel, data: Tensor, composed: Compose) -> Tensor:
    return PathRegression().loss(model, None, batch_of(data), integrator(composed)).total.detach()  # type: ignore[arg-type]


def test_the_loss_of_a_perfect_velocity_between_two_normal_laws_is_half_pi(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "STD", 1.0)
    model = known(composed, "flow_matching")
    data = torch.randn(400_000, 2, generator=torch.Generator().manual_seed(4))
    assert float(loss_of(model, data, composed)) == pytest.approx(math.pi / 2, abs=0.01)


@pytest.mark.parametrize(
    ("name", "options"),
    [("flow_matching", {}), ("diffusion", {"path": "vp", "head": "score", "weighting": "likelihood"}), ("edm", {})],
)
def test_a_perfect_model_has_the_loss_that_is_said_to_be_the_least(
    name: str, options: dict[str, Any], composed: Compose
) -> None:
    """And one that is not has a larger one; in training nothing is said."""
    distribution = GaussianMixture(path_named("cosine"), means=torch.zeros(1, 2), std=STD)
    spec = TaskSpec(input_shape=(2,), output_shape=(2,), std=STD, field=distribution)
    model, data = model_of(composed, name, spec, **options).eval(), STD * torch.randn(3000, 2)
    objective, batch, bound = PathRegression(), batch_of(data), integrator(composed)
    worse = objective.loss(model, None, batch, bound)  # type: ignore[arg-type]
    assert worse.reported[FLOOR] < worse.total.detach()
    model.field.inner = NormalData(model.field.path, model.field.head)
    found = objective.loss(model, None, batch, bound)  # type: ignore[arg-type]
    torch.testing.assert_close(found.total, found.reported[FLOOR], rtol=1e-3, atol=1e-5)
    assert FLOOR not in objective.loss(model.train(), None, batch, bound).reported  # type: ignore[arg-type]


def test_the_floor_is_not_known_of_pairs_that_belong_together(composed: Compose) -> None:
    distribution = GaussianMixture(path_named("linear"), means=torch.zeros(1, 2), std=STD)
    spec = TaskSpec(input_shape=(2,), output_shape=(2,), field=distribution)
    model = model_of(composed, "flow_matching", spec, coupling="minibatch_ot").eval()
    assert model.perfect(torch.tensor(0.5), torch.zeros(1, 2), []) is None
    assert model.learned_field() is None


def test_losses_of_what_is_predicted_otherwise_are_other_quantities(composed: Compose) -> None:
    """The report compares none with another: that of the noise is below that of the velocity, whatever is learned."""
    choices: list[tuple[str, dict[str, Any]]] = [
        ("flow_matching", {}),
        ("flow_matching", {"coupling": "minibatch_ot"}),
        ("diffusion", {}),
        ("diffusion", {"head": "x0"}),
        ("diffusion", {"weighting": "snr"}),
        ("diffusion", {"end_time": 0.2}),
        ("flow_matching", {"start_time": 0.9}),
        ("consistency", {}),
        ("consistency", {"huber": 0.3}),
        ("consistency", {"levels": 20}),
        ("edm", {}),
        ("rectified_flow", {}),
    ]
    models = [model_of(composed, name, **options) for name, options in choices]
    assert len({model.objective.measures(model) for model in models}) == len(choices)
    again = model_of(composed, "flow_matching", hidden=0.5)  # in training alone
    assert again.objective.measures(again) == models[0].objective.measures(models[0])


def test_a_learned_field_is_compared_with_the_true_one(composed: Compose) -> None:
    options = own_options(composed, "task", "density2d") | {"name": "8gaussians_narrow", "train": 9, "test": 50}
    task = construct(OmegaConf.create({"task": options}), "task", seed=0, device=torch.device("cpu"))
    model = model_of(composed, "diffusion", task.spec, path="vp")
    true = task.spec.field.along(model.field.path)

    class Off(VectorField):
        batched_time = True

        def forward(self, t: Time, y: State, *given: Tensor) -> State:
            eps = convert(model.field.path, Head.X0, Head.EPS, t, y, true.denoise(t, y))
            slope = model.field.path.sigma_dot(t) - model.field.path.alpha_dot(t) * model.field.path.sigma(t) / (
                model.field.path.alpha(t)
            )
            return eps + torch.tensor([0.3, 0.4]) / slope

    model.field.inner.forward = Off().forward
    found = task.field_metrics(model.learned_field())
    assert found == {name: pytest.approx(0.5, rel=1e-3) for name in found}
    assert len(found) == 6
    assert task.field_metrics(true) == {}, "it is the true one"
    for name, ends, times in (
        ("flow_matching", {"start_time": 0.5}, [0.1, 0.3, 0.5]),
        ("diffusion", {"end_time": 0.4}, [0.5, 0.7, 0.9]),
        ("flow_matching", {"start_time": 0.09}, []),
        ("edm", {}, [0.1, 0.3, 0.5, 0.7, 0.9]),
    ):
        learned = model_of(composed, name, task.spec, **ends).requires_grad_(False).learned_field()
        found = task.field_metrics(learned)
        assert list(found)[1:] == [f"field_rmse_t{t:g}" for t in times], "it was trained at these alone"
        rmse = sum(value**2 for value in list(found.values())[1:]) / max(len(times), 1)
        assert not times or found["field_rmse"] == pytest.approx(rmse**0.5)
        said = task.measured_with(SimpleNamespace(field=learned))
        assert said.keys() == found.keys()
        assert not times or said["field_rmse"].endswith(f" at t = {', '.join(map(str, times))}")


@pytest.mark.parametrize("head", ["v", "eps", "x0", "score"])
def test_weightings_measure_one_error_whatever_the_head(head: str, composed: Compose) -> None:
    """A prediction that is off by what one of the noise would be has the weighted error of that one."""
    t, data = torch.linspace(0.1, 0.9, 5)[:, None], torch.randn(5, 2)
    noise, off = torch.randn(5, 2), torch.randn(5, 2)
    for weighting in ("snr", "likelihood"):
        model = model_of(composed, "diffusion", path="subvp", head=head, weighting=weighting)
        path = model.field.path
        x = path.noised(t, data, noise)
        wrong = convert(path, Head.EPS, Head(head), t, x, noise + off)
        weight = model.weight(t)
        assert weight is not None
        squares = weight * (wrong - model.target(t, data, noise)).square()
        expected = off.square() if weighting == "snr" else (off * path.squared_diffusion(t).sqrt() / path.sigma(t)) ** 2
        torch.testing.assert_close(squares, expected, rtol=1e-3, atol=1e-5)


def test_an_untrained_denoiser_of_edm_has_a_loss_of_one(composed: Compose) -> None:
    spec = TaskSpec(input_shape=(2,), output_shape=(2,), std=STD)
    model = model_of(composed, "edm", spec)
    for parameter in list(model.field.inner.inner.parameters())[-2:]:
        torch.nn.init.zeros_(parameter)
    data = STD * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(4))
    assert float(loss_of(model, data, composed)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("head", ["v", "eps", "x0", "score"])
def test_an_untrained_diffusion_model_is_right_of_normal_data(head: str, composed: Compose) -> None:
    spec = TaskSpec(input_shape=(2,), output_shape=(2,), std=STD)
    model = model_of(composed, "diffusion", spec, path="subvp", head=head)
    for parameter in list(model.field.inner.inner.parameters())[-2:]:
        torch.nn.init.zeros_(parameter)
    t, x = torch.tensor([0.1, 0.5, 0.9]), 10 * torch.randn(3, 2)
    expected = NormalData(model.field.path, Head(head))(t, x)
    torch.testing.assert_close(model.field.inner(t, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("flow_matching", {}),
        ("flow_matching", {"path": "cosine"}),
        ("diffusion", {"end_time": 1e-5}),
        ("diffusion", {"path": "ve", "head": "score"}),
        ("diffusion", {"path": "subvp", "head": "x0", "end_time": 1e-4}),
        ("edm", {}),
    ],
)
def test_the_likelihood_of_a_known_field_is_that_of_its_law(
    name: str, options: dict[str, Any], composed: Compose
) -> None:
    """Of what is noised up to the end time, to rounding; that of the data differs by little.

    The field scales its states, so that the distribution at its start, which is taken for normal noise, is known too.
    """
    model = known(composed, name, **options)
    x = torch.randn(20, 2) * STD
    found = model(x, torch.tensor([0.0, 1.0]), integrator(composed, tolerance=1e-7)).values
    generator = model.generator()
    assert isinstance(generator.field, DenoisingField)
    path, ends = generator.field.path, torch.tensor([generator.end, generator.start])
    last, first = (path.alpha(ends).square() * STD**2 + path.sigma(ends).square()).sqrt().tolist()
    expected = normal_law(x * first / last, path.noise_std) + 2 * math.log(first / last)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(found, normal_law(x, STD), rtol=0, atol=1e-2)
    assert generator.end == model.end_time


def normal_law(x: Tensor, std: float) -> Tensor:
    """The log density of N(0, std^2 I) in the plane."""
    return -0.5 * (x / std).square().sum(dim=1) - math.log(2 * math.pi * std**2)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("solver", "steps", "nll", "mass"),
    [("euler", 4, 2.0751, 1.165), ("euler", 8, 2.0763, 1.069), ("rk4", 8, 2.1121, 1.0)],
)
def test_the_mass_tells_of_steps_that_are_too_long_where_twice_as_many_change_hardly_anything(
    solver: str, steps: int, nll: float, mass: float, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of N(0, 4) along the linear path, whose entropy is 2.1121: Euler's likelihood is too good, and no density."""
    monkeypatch.setitem(globals(), "STD", 2.0)
    model = known(composed, "flow_matching", TaskSpec(input_shape=(1,), output_shape=(1,)))
    method = build(composed, "solver", solver, num_steps=steps)
    x, apart = torch.linspace(-24, 24, 961)[:, None], 0.05
    with torch.no_grad():
        found = model(
            x, torch.tensor([0.0, 1.0]), Integrator(solver=method, gradient=build(composed, "gradient", "backprop"))
        )
    distribution = torch.exp(-0.5 * (x[:, 0] / STD) ** 2) / math.sqrt(2 * math.pi * STD**2)
    assert float(-(distribution * found.values).sum() * apart) == pytest.approx(nll, abs=6e-5)
    assert float(found.values.exp().sum() * apart) == pytest.approx(mass, abs=6e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", ["backprop", "checkpoint", "adjoint"])
def test_the_gradient_of_a_likelihood_is_that_of_its_law(mode: str, composed: Compose) -> None:
    model, x = known(composed, "flow_matching"), torch.randn(10, 2).requires_grad_()
    log_density = model(x, torch.tensor([0.0, 1.0]), integrator(composed, mode, 1e-8)).values
    [slope] = torch.autograd.grad(log_density.sum(), x)
    torch.testing.assert_close(slope, -x.detach() / STD**2, rtol=0, atol=1e-5)


def test_pairs_of_least_distance_are_a_permutation_and_no_other_is_shorter() -> None:
    data, noise = torch.randn(6, 2), torch.randn(6, 2)
    chosen = nearest_pairs(data, noise)
    assert sorted(chosen.tolist()) == list(range(6))
    reached = float((data - noise[chosen]).square().sum())
    shortest = min(float((data - noise[list(order)]).square().sum()) for order in itertools.permutations(range(6)))
    assert reached == pytest.approx(shortest, rel=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "options"), [("flow_matching", {}), ("diffusion", {"path": "ve", "head": "eps", "end_time": 0.05})]
)
def test_samples_are_told_the_density_of_the_law_that_they_are_drawn_from(
    name: str, options: dict[str, Any], composed: Compose
) -> None:
    model, noise = known(composed, name, **options), sample_noise(0, torch.arange(50))
    generator = model.generator()
    assert isinstance(generator, DensityGenerator)
    y0, ts = generator.initial(noise, times=3, dtype=torch.float64)
    path, density = generator.path_with_density(y0, ts, noise, integrator(composed), ())
    ends = torch.tensor([model.start_time, model.end_time])
    spread = (model.field.path.alpha(ends) * STD).hypot(model.field.path.sigma(ends))  # of the data on their way
    distribution = torch.distributions.Normal(
        0.0, model.field.path.noise_std * spread[1] / spread[0]
    )  # from normal noise
    torch.testing.assert_close(density, distribution.log_prob(path[-1]).sum(dim=1), rtol=0, atol=1e-6)
    fixed = Integrator(solver=build(composed, "solver", "heun", num_steps=4), gradient=integrator(composed).gradient)
    with fixed.ledger.phase(Phase.SAMPLING) as told:
        path, _ = generator.path_with_density(y0, ts[[0, -1]], noise, fixed, ())
    with fixed.ledger.phase(Phase.SAMPLING) as untold:
        torch.testing.assert_close(
            path, generator.generate(noise, fixed, times=2, dtype=torch.float64), rtol=0, atol=1e-14
        )
    assert (told.evaluations, told.products > 0) == (untold.evaluations, True)
    guided = model_of(composed, "flow_matching", TOLD, guidance=2.0, hidden=0.1).generator()
    assert not isinstance(guided, DensityGenerator), "a guided field is that of no distribution"


def test_noise_is_paired_among_data_of_one_condition(composed: Compose) -> None:
    model = model_of(composed, "flow_matching", TOLD, coupling="minibatch_ot")
    data, noise = torch.randn(60, 2), torch.randn(60, 2)
    label = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(0))
    paired = model.coupled(data, noise, [torch.eye(3)[label]]).noise
    for one in range(3):
        own = label == one
        torch.testing.assert_close(paired[own], noise[own][nearest_pairs(data[own], noise[own])], rtol=0, atol=0)
    independent = model_of(composed, "flow_matching", TOLD)
    assert independent.coupled(data, noise, [torch.eye(3)[label]]).noise is noise


def test_conditions_are_hidden_in_training_alone(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = model_of(composed, "flow_matching", TOLD, hidden=0.4), []
    predict = FlowMatching.predict

    def watched(self: FlowMatching, t: Tensor, x: State, given: Any, integrate: Any) -> State:
        seen.append(given[0].sum(dim=1))
        return predict(self, t, x, given, integrate)

    monkeypatch.setattr(FlowMatching, "predict", watched)
    inputs = torch.cat([torch.randn(2000, 2), torch.eye(3)[torch.arange(2000) % 3]], dim=1)
    for training in (True, False):
        model.train(training)
        loss_of(model, inputs, composed)
    assert float((seen[0] == 0).float().mean()) == pytest.approx(0.4, abs=0.05)
    assert float(seen[1].min()) == 1
    [line] = model.introduction()
    assert line.startswith("the loss of training hides 0.4 of the conditions (model.hidden), that of validation")
    assert not list(model_of(composed, "flow_matching", TOLD, hidden=0.0).introduction())
    assert not list(model_of(composed, "flow_matching", hidden=0.4).introduction())


def test_a_batch_outside_training_has_the_same_loss_twice_and_in_training_never(composed: Compose) -> None:
    model, data = model_of(composed, "flow_matching"), torch.randn(50, 2)
    model.eval()
    assert float(loss_of(model, data, composed)) == float(loss_of(model, data, composed))
    model.train()
    assert float(loss_of(model, data, composed)) != float(loss_of(model, data, composed))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_a_guided_field_goes_beyond_its_condition_and_counts_two_evaluations(scale: float, composed: Compose) -> None:
    model, ledger = model_of(composed, "flow_matching", TOLD).eval(), Ledger()
    x, condition, t = torch.randn(7, 2), torch.eye(3)[torch.arange(7) % 3], torch.tensor(0.3)
    guided = GuidedField(model.field, scale=scale)
    integrate = Integrator(solver=integrator(composed).solver, gradient=integrator(composed).gradient, ledger=ledger)
    with ledger.phase(Phase.SAMPLING) as tally:
        found = integrate.evaluate(guided, t, x, given=[condition])
    free, told = (model.field(t, x, given) for given in (0 * condition, condition))
    torch.testing.assert_close(found, free + scale * (told - free), rtol=1e-5, atol=1e-6)
    assert tally.evaluations == 2
    denoised = [model.field.denoise(t.expand(7), x, given) for given in (0 * condition, condition)]
    expected = denoised[0] + scale * (denoised[1] - denoised[0])
    torch.testing.assert_close(guided.denoise(t.expand(7), x, condition), expected, rtol=1e-5, atol=1e-6)


def test_a_field_of_one_time_is_learned_at_a_time_for_each_sample(composed: Compose) -> None:
    """One's own field need know nothing of times (batch,), by which regressions look at it."""

    class OneTime(VectorField):
        def forward(self, t: Time, y: State, *given: Tensor) -> State:
            return y * torch.stack([t.sin(), t.cos()])

    bound, t, y = integrator(composed), torch.linspace(0.1, 0.9, 5), torch.randn(5, 2)
    found = bound.evaluate(OneTime(), t, y)
    torch.testing.assert_close(found, y * torch.stack([t.sin(), t.cos()], dim=1))
    assert bound.ledger.tally.evaluations == 1


def test_what_a_head_predicts_is_one_field(composed: Compose) -> None:
    """The denoised data and the velocity of every head of one perfect model are the same."""
    t, x = torch.tensor(0.4), torch.randn(5, 2)
    fields = [known(composed, "diffusion", path="vp", head=head).field for head in ("v", "eps", "x0", "score")]
    for field in fields[1:]:
        torch.testing.assert_close(field(t, x), fields[0](t, x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(field.denoise(t, x), fields[0].denoise(t, x), rtol=1e-4, atol=1e-5)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("model=diffusion", "model.path=linear"), "singular. Begin at 0.999"),
        (("model=diffusion", "model.path=vp", "model.end_time=0"), "or use model.path=linear model.head=v"),
        (
            ("model=flow_matching", "model.path=vp", "model.end_time=0"),
            "with model.path=vp and a learned velocity, dx/dt is not finite at t = 0. End at 0.001 "
            r"\(model.end_time=0.001\), or use model.path=linear\.",
        ),
        (("model=flow_matching", "model.guidance=2"), "needs a condition to be guided by"),
        (
            ("model=flow_matching", "task.conditional=true", "model.guidance=2", "model.hidden=0"),
            "a model that does without its condition",
        ),
        (("model=flow_matching", "model.hidden=1"), "model.hidden must be 0 or more and less than 1"),
        (("model=flow_matching", "model.end_time=1"), "model.end_time=1: samples begin at the one"),
        (("model=flow_matching", "model.start_time=5"), "model.start_time=5 model.end_time=0: samples begin"),
        (("model=flow_matching", "solver=implicit_adams"), "no rule for integrals"),
        (("model=flow_matching", "solver=leapfrog"), "separable"),
        (("model=flow_matching", "network=mlp", "network.width=1"), "moves the data themselves"),
        (("model=flow_matching", "solver=euler_maruyama"), "infinite noise at t = 1, where alpha is 0. Begin at 0.999"),
        (("model=flow_matching", "solver=milstein"), "infinite noise at t = 1, where alpha is 0. Begin at 0.999"),
        (("model=flow_matching", "solver=heun_sde", "model.start_time=0.999"), "at t = 0, where no noise is left"),
        (("model=flow_matching", "audit=true"), "no solve to differentiate"),
        (("model=edm", "model.rho_max=0"), "model.rho_max must be above 0"),
    ],
    ids=" ".join,
)
def test_what_cannot_mean_anything_is_refused_in_a_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    check_refused(*SMALL, *words, sentence=sentence, cwd=tmp_path)


@pytest.mark.slow
def test_solvers_of_one_training_share_it_and_each_makes_samples(tmp_path: Path) -> None:
    several = ("solver=heun,dpmpp_2m,euler_maruyama", "solver.num_steps=choice(4)")
    ended = typed("-m", *SMALL, "model=flow_matching", "model.start_time=0.999", *several, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("nothing is trained") == 1, "it is said once of both"
    assert "the warning of flow_matching-dpmpp_2m" in ended.stdout
    assert " holds for 1 more" in ended.stdout
    told = [line for line in ended.stdout.splitlines() if line.startswith("[")]
    assert len({line.partition("test sw2")[2].split()[0] for line in told}) == 3, "and not their common loss alone"
    records = {record["choices"]["solver"]: record for record in records_of(tmp_path)}
    assert len({record["training"] for record in records.values()}) == 1
    assert len({record["metrics"]["test/loss"] for record in records.values()}) == 1
    assert len({record["metrics"]["test/nll_gap"] for record in records.values()}) == 1
    for folder in run_folders(tmp_path):
        assert ("log_prob" in (folder / "samples.csv").read_text()) == ("-heun-" in folder.name)
    for name, record in records.items():
        metrics = record["metrics"]
        assert record["choices"]["gradient"] == "-"
        assert (record["cost"]["nfe_forward"], record["cost"]["nfe_backward"]) == (1, 0)
        assert 0 < metrics["test/loss_floor"] < metrics["test/loss"]
        assert metrics["test/nll_end_time"] == 0
        assert metrics["nfe/sample"] == (8 if name == "heun" else 4)
        assert ("test/nll" in metrics) == ("test/mass" in metrics) == (name == "heun"), "a sampler gives no density"
        assert ("test/endpoint_rmse" in metrics) == (name != "euler_maruyama"), "that is of another equation"


def test_a_guided_run_takes_the_weights_of_one_that_is_not_and_counts_twice(tmp_path: Path) -> None:
    told = (*SMALL, "task.conditional=true", "solver=euler", "solver.num_steps=3", "model=flow_matching")
    for guidance in ("1", "3"):
        ended = typed(*told, f"model.guidance={guidance}", cwd=tmp_path)
        assert ended.returncode == 0
        assert ended.stdout.count("the loss of training hides 0.1 of the conditions") == 1
        assert ("samples are drawn with model.guidance=3; log densities" in ended.stdout) == (guidance == "3")
    plain, guided = sorted(records_of(tmp_path), key=lambda record: record["config"]["model"]["guidance"])
    assert plain["training"] == guided["training"]
    assert plain["metrics"]["test/nll"] == guided["metrics"]["test/nll"], (
        "a likelihood is of the field without guidance"
    )
    assert (plain["metrics"]["nfe/sample"], guided["metrics"]["nfe/sample"]) == (3, 6)
    assert plain["metrics"]["test/endpoint_rmse"] != guided["metrics"]["test/endpoint_rmse"]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    command = (*SMALL, "model=flow_matching", "model.coupling=minibatch_ot", "solver=euler", "trainer.log_every=4")
    check_resumed_exactly(command, tmp_path, step=13)


@pytest.mark.slow
def test_a_picture_is_drawn_of_the_samples_of_every_solver(tmp_path: Path) -> None:
    for solver in ("heun", "ddim"):
        ended = typed(*SMALL, "model=diffusion", f"solver={solver}", "trainer.max_steps=2", cwd=tmp_path, pictures=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    for folder in run_folders(tmp_path):
        assert {path.stem for path in (folder / "plots").glob("*.png")} == {"curves", "density", "samples"}


@pytest.mark.slow
def test_a_trained_run_is_sampled_again_by_other_solvers(tmp_path: Path) -> None:
    assert typed(*SMALL, "model=edm", "solver=edm_heun", "solver.num_steps=4", cwd=tmp_path).returncode == 0
    [folder] = run_folders(tmp_path)
    for words, evaluations in ((("solver=heun", "solver.num_steps=3"), 6), (("solver=ddpm", "solver.num_steps=5"), 5)):
        ended = typed(f"evaluate={folder}", *words, cwd=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Learned without a solve" in ended.stdout
        [written] = folder.glob(f"evaluations/{words[0].removeprefix('solver=')}-*/evaluation.json")
        metrics = json.loads(written.read_text())["metrics"]
        assert metrics["nfe/sample"] == evaluations
        assert ("test/endpoint_rmse" in metrics) == ("from the ends of a fine solve" in ended.stdout)
        assert ("test/apart_from_own" in metrics) == (words[0] == "solver=heun"), "the other draws noise on the way"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:log densities are .* off those of a fine solve")  # by three Euler steps
def test_a_trained_run_is_guided_anew_and_nothing_that_it_has_learned_is_changed(tmp_path: Path) -> None:
    told = (*SMALL, "task.conditional=true", "solver=euler", "solver.num_steps=3", "model=flow_matching")
    assert typed(*told, cwd=tmp_path).returncode == 0
    [folder] = run_folders(tmp_path)
    for guidance in ("1", "3"):
        assert typed(f"evaluate={folder}", f"model.guidance={guidance}", cwd=tmp_path).returncode == 0
    found = [json.loads(path.read_text())["metrics"] for path in folder.glob("evaluations/*/evaluation.json")]
    assert sorted(metrics["nfe/sample"] for metrics in found) == [3, 6]
    assert found[0]["test/sw2"] != found[1]["test/sw2"]
    assert [metrics["test/apart_from_own"] for metrics in found] == [0, 0], "the same solver, from the same noise"
    ended = typed(f"evaluate={folder}", "model.hidden=0.5", cwd=tmp_path)
    taken = "model.hidden=0.5: the run is taken as it is. Change its solver or tolerance, or model.guid"
    assert ended.returncode == 2
    assert taken in ended.stderr
    guided = [ode.load(folder, f"model.guidance={guidance}") for guidance in (1, 3)]
    assert not torch.equal(*(run.sample(4).path[-1] for run in guided))
    other, default = torch.eye(guided[0].experiment.task.spec.condition).roll(1, dims=0), guided[0].sample(8).path[-1]
    assert not torch.equal(guided[0].sample(8, given=other).path[-1], default)
    with pytest.raises(ode.RefusedInput, match=r"given has shape \(8, 8\); conditions of these samples have \(4, 8\)"):
        guided[0].sample(4, given=other)
    with pytest.raises(ode.RefusedInput, match=taken):
        ode.load(folder, "model.hidden=0.5")


@pytest.mark.slow
def test_samples_of_a_condition_are_no_worse_where_noise_is_coupled_within_it(tmp_path: Path) -> None:
    words = ("task=density2d", "task.name=8gaussians", "task.conditional=true", "model=flow_matching", "solver=heun")
    sizes = ("task.train=10240", "task.test=1000", "task.grid=20", "trainer.epochs=12", "trainer.batch_size=128")
    right = {}
    for coupling in ("independent", "minibatch_ot"):
        place = tmp_path / coupling
        place.mkdir()
        ended = typed(*words, *sizes, f"model.coupling={coupling}", "logger=none", cwd=place)
        assert ended.returncode == 0, ended.stderr
        right[coupling] = record_of(place)["metrics"]["test/right_centre"]
    assert right["minibatch_ot"] >= right["independent"] - 0.02
    assert right["independent"] > 0.9


@pytest.mark.slow
def test_what_a_field_that_ends_above_the_data_has_not_learned_is_refused(tmp_path: Path) -> None:
    """Times were moved to its ends, and rows labelled as asked; its students learned from what it had not learned."""
    told = (*SMALL, "model=flow_matching", "model.end_time=0.3", "solver=ddim", "trainer.max_steps=2")
    assert typed(*told, "pictures=false", cwd=tmp_path).returncode == 0
    [folder] = run_folders(tmp_path)
    for words, sentence in (
        ((f"predict={folder}", "solver=heun", "times=[0.1,0.5]"), "t = 0.1: the field of this model leads from data"),
        ((f"predict={folder}", "solver=heun", "times=[0.5,1.5]"), "t = 1.5: the field of this model leads from data"),
        ((*SMALL, "model=consistency", f"model.teacher={folder}"), "Use model.rho_min=0.429."),
    ):
        ended = typed(*words, cwd=tmp_path)
        assert (ended.returncode, sentence in ended.stderr) == (2, True), ended.stdout + ended.stderr
    assert typed(f"predict={folder}", "solver=heun", "times=[0,0.3,1]", cwd=tmp_path).returncode == 0
    exported = typed(f"export={folder}", cwd=tmp_path)
    assert "opened again, its answer to 3 samples is the model's" in exported.stdout, "whatever sampler the run has"
