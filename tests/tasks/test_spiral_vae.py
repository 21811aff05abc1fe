"""The latent ODE's task and networks: the bound is the bound, and nothing depends on company, order or padding."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ode_runner.batch import Outputs, Split, TaskSpec
from ode_runner.building.instantiate import construct
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.integrator import Integrator
from ode_runner.objectives.supervised import Supervised
from ode_runner.tasks.dynamics.spiral_vae import SpiralVAE, spirals
from tests.helpers import record_of, rows_of, run_folder, typed
from tests.problems import Compose, build, learners

SMALL = ("task.train=8", "task.validation=4", "task.test=4", "task.observed=10", "trainer.batch_size=4")
LEARNING = learners()
CPU = torch.device("cpu")


@pytest.fixture
def make(composed: Compose) -> Any:
    def task(*, seed: int = 0, **changed: Any) -> SpiralVAE:
        cfg = composed("task=spiral_vae")
        cfg.task.update({"train": 6, "validation": 4, "test": 4, "observed": 7} | changed)
        return construct(cfg, "task", seed=seed, device=CPU)

    return task


def first(task: SpiralVAE, split: Split, size: int = 100) -> Any:
    return next(task.batches(split, batch_size=size, epoch=0))


@pytest.fixture(params=["recurrent_vae", "recurrent_decoder"])
def network_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(make: Any, composed: Compose, network_name: str) -> Any:
    """A latent model of each kind, that of the task's kind with rk4."""
    network = build(composed, "network", network_name, make().spec, samples=3)
    name, changed = ("resnet", {"blocks": 1}) if network_name == "recurrent_decoder" else ("odenet", {})
    return build(composed, "model", name, network, **changed)


@pytest.fixture
def integrate(composed: Compose) -> Integrator:
    return Integrator(solver=build(composed, "solver", "rk4"), gradient=build(composed, "gradient", "backprop"))


def test_spirals_turn_both_ways_and_follow_their_formulas() -> None:
    made = spirals(40, 200, torch.Generator().manual_seed(0)).double()
    centred = (
        made - torch.tensor([-5.0, 0.0]) * torch.tensor([1.0 if i % 2 == 0 else -1.0 for i in range(40)])[:, None, None]
    )
    radius = centred.norm(dim=-1)
    angle = torch.atan2(centred[..., 1], centred[..., 0])
    turn = torch.remainder(angle.diff(dim=1) + math.pi, math.tau) - math.pi
    step = 3 * math.tau / 499
    torch.testing.assert_close(turn[0::2], torch.full_like(turn[0::2], -step), rtol=0, atol=1e-4)  # fp32 angles
    torch.testing.assert_close(turn[1::2], torch.full_like(turn[1::2], step), rtol=0, atol=2e-3)  # and small radii
    assert (radius[0::2].diff(dim=1) > 0).all()
    assert (radius[1::2].diff(dim=1) > 0).all()
    assert float(radius[1::2].max()) <= 0.3 * 3 * math.tau + 1e-4


def test_each_spiral_is_observed_at_times_of_its_own(make: Any) -> None:
    task = make()
    batch = first(task, Split.TRAIN)
    assert batch.observed.sum(dim=0).tolist() == [7] * 6
    assert len({tuple(times) for times in batch.inputs[..., 2].tolist()}) == 6
    for sample in range(6):
        torch.testing.assert_close(batch.ts[batch.observed[:, sample]], batch.inputs[sample, :, 2])
        torch.testing.assert_close(batch.targets[batch.observed[:, sample], sample, :, 0], batch.inputs[sample, :, :2])


@pytest.mark.parametrize("split", Split)
def test_the_loss_is_minus_the_bound_computed_independently(make: Any, split: Split) -> None:
    task = make(kl_epochs=4)
    batch = first(task, split)
    values = torch.randn(len(batch.ts), 2 * len(batch.inputs), 2)  # two samples of each beginning
    kl = torch.rand(len(batch.inputs))
    likelihood = Normal(values.unflatten(1, (2, -1)), task.noise).log_prob(batch.targets[:, None, ..., 0])
    expected = 0.0
    for sample in range(len(batch.inputs)):
        expected += float(likelihood[batch.observed[:, sample], :, sample].sum()) / 2 / len(batch.inputs)
    weight = 0.25 if split is Split.TRAIN else 1.0
    outputs = Outputs(values, {"kl": kl})
    loss = Supervised().loss(lambda *asked: outputs, task, batch, None)
    assert float(loss.total) == pytest.approx(weight * float(kl.mean()) - expected, rel=1e-5)
    assert {name: float(term) for name, term in loss.terms.items()} == pytest.approx(
        {"task": -expected, "kl": float(kl.mean())}, rel=1e-5
    )
    assert float(task.metrics(outputs, batch)["elbo"]) == pytest.approx(expected - float(kl.mean()), rel=1e-5)


def test_the_divergence_is_that_of_torchs_distributions(make: Any, model: Any) -> None:
    batch, seen = first(make(), Split.VALIDATION), {}
    model.stem.posterior.register_forward_hook(lambda _, __, out: seen.update(out=out))
    encoding = model.encode(batch.inputs)
    mean, log_variance = seen["out"].chunk(2, dim=-1)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=-1)
    torch.testing.assert_close(encoding.terms["kl"], expected)


def test_initial_states_are_drawn_from_the_posterior(make: Any, model: Any) -> None:
    batch, seen = first(make(), Split.VALIDATION), {}
    model.stem.posterior.register_forward_hook(lambda _, __, out: seen.update(out=out))
    model.train()
    with torch.no_grad():
        drawn = torch.stack([model.encode(batch.inputs).y0 for _ in range(500)])
    mean, log_variance = seen["out"].chunk(2, dim=-1)
    deviation = (log_variance / 2).exp()
    assert float(((drawn.mean(dim=0) - mean) / deviation).abs().max()) < 5 / math.sqrt(500)  # five standard errors
    assert float((drawn.std(dim=0) / deviation - 1).abs().max()) < 5 / math.sqrt(1000)


def test_evaluation_is_the_same_every_time_and_for_every_company(make: Any, model: Any, integrate: Integrator) -> None:
    task = make()
    batch = first(task, Split.TEST)
    model.eval()
    with torch.no_grad():
        together = model(batch.inputs, batch.ts, integrate)
        again = model(batch.inputs, batch.ts, integrate)
        order = torch.tensor([2, 0, 3, 1])
        shuffled = model(batch.inputs[order], batch.ts, integrate)
        alone = model(batch.inputs[1:2], batch.ts, integrate)
    values = together.values.unflatten(1, (3, 4))
    assert torch.equal(together.values, again.values)
    torch.testing.assert_close(shuffled.values.unflatten(1, (3, 4)), values[:, :, order])
    torch.testing.assert_close(shuffled.terms["kl"], together.terms["kl"][order])
    torch.testing.assert_close(alone.values.unflatten(1, (3, 1)), values[:, :, 1:2])


def test_neither_padding_nor_the_order_of_rows_changes_anything(make: Any, model: Any) -> None:
    inputs = first(make(), Split.TEST).inputs
    model.eval()
    padding = torch.cat([torch.full((4, 3, 3), 50.0), torch.zeros(4, 3, 1)], dim=-1)
    for changed in (torch.cat([inputs, padding], 1), torch.cat([padding, inputs], 1), inputs.flip(1)):
        torch.testing.assert_close(model.encode(changed).y0, model.encode(inputs).y0)
        torch.testing.assert_close(model.encode(changed).terms["kl"], model.encode(inputs).terms["kl"])


def test_padding_that_is_no_number_gives_the_gradient_of_none(make: Any, model: Any) -> None:
    inputs = first(make(), Split.TEST).inputs
    padding = torch.cat([torch.full((4, 3, 3), torch.nan), torch.zeros(4, 3, 1)], dim=-1)
    padded, longer = torch.cat([inputs, padding], dim=1), torch.cat([inputs, inputs[:, :3]], dim=1)
    both = torch.cat([padded[:2], longer[2:]])
    found = []
    for one in (both, both.nan_to_num()):
        kl = model.encode(one).terms["kl"].sum()
        found.append(torch.autograd.grad(kl, list(model.stem.parameters())))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_is_read_of_a_sequence_can_be_exported(make: Any, model: Any) -> None:
    class Read(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return model.stem._read(inputs)

    inputs = first(make(), Split.TEST).inputs[:2, :4]
    padded = torch.cat([inputs, torch.zeros_like(inputs)], dim=1)
    read = torch.export.export(Read(), (padded,)).module()
    torch.testing.assert_close(read(padded), model.stem._read(inputs))


def test_recognition_reads_values_times_and_order(make: Any, model: Any) -> None:
    inputs = first(make(), Split.TEST).inputs
    model.eval()
    for column in (0, 1, 2):
        changed = inputs.clone()
        changed[:, 0, column] += 0.01
        assert not torch.allclose(model.encode(changed).y0, model.encode(inputs).y0, rtol=0, atol=1e-7)


def test_errors_are_pooled_over_window_and_beyond(make: Any) -> None:
    task = make()
    batch = first(task, Split.TEST)
    off = torch.cat([torch.full((100, 1, 1), 3.0), torch.full((100, 1, 1), 4.0)])
    found = task.reported(
        {k: float(v) for k, v in task.metrics(Outputs(batch.targets[..., 1] + off), batch).items() if k != "elbo"}
    )
    assert found["rmse_window_clean"] == pytest.approx(3.0)
    assert found["rmse_beyond_clean"] == pytest.approx(4.0)
    assert found["rmse_window_noisy"] == pytest.approx(math.hypot(3, 0.3), rel=0.02)


def test_the_decoder_without_a_flow_is_as_large_as_the_flow(make: Any, composed: Compose) -> None:
    flow, cell = (build(composed, "network", name, make().spec) for name in ("recurrent_vae", "recurrent_decoder"))
    sizes = [sum(p.numel() for p in part.parameters()) for part in (flow.field(), cell.block())]
    assert sizes == [604, 624]


def test_a_network_that_has_no_field_says_what_to_use(tmp_path: Path) -> None:
    ended = typed("task=spiral_vae", "network=recurrent_decoder", *SMALL, cwd=tmp_path)
    assert ended.returncode == 2
    assert "Use model=resnet model.blocks=1 with it, or network=recurrent_vae." in ended.stderr


@pytest.mark.parametrize("name", ["recurrent_vae", "recurrent_decoder"])
def test_what_is_no_sequence_is_refused(composed: Compose, name: str) -> None:
    with pytest.raises(IncompatibleChoice, match=f"network={name} reads sequences.*Use task=spiral_vae"):
        build(composed, "network", name, TaskSpec(input_shape=(5, 4), output_shape=(2,)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"points": 300}, "task.points=300 reaches beyond the data"),
        ({"observed": 101}, "task.observed must be from 1 to task.points=100"),
        ({"observed": 0}, "task.observed must be"),
        ({"noise": 0.0}, "task.noise must be positive"),
        ({"train": 1}, "task.train must be at least 2"),
        ({"kl_epochs": 0}, "task.kl_epochs must be at least 1"),
    ],
)
def test_senseless_options_are_refused_by_name(make: Any, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedInput, match=words):
        make(**changed)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model_name", LEARNING)
@pytest.mark.parametrize("network", ["recurrent_vae", "mlp", "linear"])
def test_every_model_trains_two_steps(model_name: str, network: str, tmp_path: Path) -> None:
    arguments = ("task=spiral_vae", f"model={model_name}", f"network={network}", "trainer=quick", "trainer.max_steps=2")
    if model_name == "galerkin":
        arguments += ("model.size=3",)  # so few points tell no more apart
    ended = typed(*arguments, *SMALL, "logger=none", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert math.isfinite(metrics["test/rmse_beyond_clean"])
    assert math.isfinite(metrics["test/elbo"])
    variational = network == "recurrent_vae"
    assert ("test/kl" in metrics) == variational
    assert ("test/loss/kl" in metrics) == variational
    assert metrics.get("test/loss/kl") == metrics.get("test/kl")
    steps = [row for row in rows_of(run_folder(tmp_path)) if "train/loss" in row]
    for row in steps if variational else []:  # of the first epoch of 30, in which the divergence weighs 1/30
        assert row["train/loss"] == pytest.approx(row["loss/task"] + row["loss/kl"] / 30)
    assert [("loss/task" in row) for row in steps] == [variational] * 2
    said = "the weight of loss/kl, which rises to 1 in task.kl_epochs=30 epochs, was 0.033 when training ended"
    assert (said in ended.stdout) == variational


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [(), ("network=recurrent_decoder", "model=resnet", "model.blocks=1")], ids=["flow", "cell"]
)
def test_training_improves_the_bound_and_pictures_are_drawn(arguments: tuple[str, ...], tmp_path: Path) -> None:
    elbo = []
    for epochs in (1, 15):
        folder = tmp_path / str(epochs)
        folder.mkdir()
        lr = "optimizer.lr=0" if epochs == 1 else "optimizer.lr=0.02"
        ended = typed("task=spiral_vae", *arguments, *SMALL, lr, f"trainer.epochs={epochs}", "logger=none", cwd=folder,
                      pictures=epochs == 1)  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        elbo.append(record_of(folder)["metrics"]["test/elbo"])
    assert elbo[1] > elbo[0] / 1.5  # both are negative: the distance from zero falls by a third
    drawn = {path.stem for path in (run_folder(tmp_path / "1") / "plots").glob("*.png")}
    assert drawn == {"reconstructions", "prior_samples", "walk", "curves"}
