"""Models that a series drives: exact gradients, counts, what changes nothing, and that no answer sees the future."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import Split, TaskSpec
from ode_runner.build import build_experiment
from ode_runner.controls.named import CONTROLS
from ode_runner.controls.series import Series
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.experiment.row_cost import sentence_on_rows
from ode_runner.exporting.formats import traced
from ode_runner.exporting.frozen_model import FrozenModel, TraceableSolves
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.integrator import Integrator
from ode_runner.models.base import Model
from ode_runner.models.series.cde import CDE
from ode_runner.models.series.series_model import SolvedSeriesModel
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.midpoint import Midpoint
from ode_runner.solvers.explicit.reversible_heun import ReversibleHeun
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.tasks.series.area import Area, shoelace
from ode_runner.tasks.series.chirality import Chirality
from tests.helpers import options, typed
from tests.problems import Compose, build, named_class

pytestmark = pytest.mark.usefixtures("float64")
TS = torch.tensor([0.0, 1.0])
SPEC = TaskSpec(input_shape=(6, 4), output_shape=(2,), sequence=True, blanks=True)
RUNNING = replace(SPEC, blanks=False, causal=True, every_time=True)
FIXED: dict[str, Any] = {"num_steps": 1, "step_size": None}
ADAPTIVE = Dopri5(rtol=1e-5, atol=1e-5, max_steps=10_000, per_sample=False)
SOLVERS = {"reversible": ReversibleHeun(**FIXED)}
EXACT = [name for name in options("gradient") if named_class("gradient", name).exact]
OF_SERIES = ["cde", "odernn", "gru_gaps", "rde"]
CHOICES: list[tuple[str, dict[str, Any]]] = [
    *(("cde", {"control": c}) for c in CONTROLS),
    ("odernn", {}),
    ("gru_gaps", {}),
    ("rde", {"window": 2}),
]
ON_THE_WAY = [choice for choice in CHOICES if choice[0] != "rde" and choice[1] != {"control": "natural"}]


def model_of(composed: Compose, name: str, spec: TaskSpec = SPEC, **changed: Any) -> Model:
    torch.manual_seed(0)
    network = build(composed, "network", "sequence", spec, hidden=4, width=6)
    model: Model = build(composed, "model", name, network, **changed)
    with torch.no_grad():
        for parameter in model.parameters():  # of which some begin at 0
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def smooth(composed: Compose) -> Model:
    """A controlled equation with tanh in place of ReLU."""
    model = model_of(composed, "cde")
    assert isinstance(model, CDE)
    assert isinstance(model.field.matrices, nn.Sequential)
    model.field.matrices[1] = nn.Tanh()
    return model


def some_series(*, blanks: bool = True, rows: int = 6) -> Series:
    generator = torch.Generator().manual_seed(1)
    times = torch.rand(3, rows, generator=generator).cumsum(dim=1)
    values = torch.randn(3, rows, 2, generator=generator)
    if blanks:
        values[0, 1, 0] = values[1, 0, 1] = values[2, 3] = torch.nan
    return Series(times=times, values=values, lengths=torch.tensor([rows, rows - 2, rows]))


def gradients(model: Model, integrate: Integrator, inputs: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (model(inputs, TS, integrate).values * torch.tensor([1.0, -2.0])).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by(solver: Solver, mode: GradientMode | None = None) -> Integrator:
    return Integrator(solver=solver, gradient=mode or Backprop())


def test_a_window_that_is_longer_than_a_series_is_told(composed: Compose) -> None:
    inputs = some_series().rows()
    assert not list(model_of(composed, "rde", window=inputs.shape[1] - 1).remarks(inputs))
    [remark] = model_of(composed, "rde", window=50).remarks(inputs)
    assert f"model.window=50 is more than the {inputs.shape[1] - 1} steps of a series" in remark


@pytest.mark.filterwarnings("ignore:the two states that")  # one step, which is too long
@pytest.mark.parametrize("gradient", EXACT)
@pytest.mark.parametrize(
    ("name", "changed"), [("cde", {}), ("cde", {"control": "linear"}), ("odernn", {}), ("rde", {})]
)
def test_every_exact_mode_gives_every_tensor_the_gradient_of_backprop(
    composed: Compose, name: str, changed: dict[str, Any], gradient: str
) -> None:
    limit = {"max_directions": 200} if gradient == "forward" else {}
    model, mode = model_of(composed, name, **changed), build(composed, "gradient", gradient, **limit)
    solver, inputs = SOLVERS.get(gradient, RK4(**FIXED)), some_series().rows()
    found, reference = gradients(model, by(solver, mode), inputs), gradients(model, by(solver), inputs)
    assert found.keys() == dict(model.named_parameters()).keys()
    assert [parameter for parameter, g in found.items() if not g.any()] == []
    for parameter, expected in reference.items():
        torch.testing.assert_close(found[parameter], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gradient", sorted({*options("gradient")} - {*EXACT}))
def test_the_other_modes_are_as_close_as_their_tolerance(composed: Compose, gradient: str) -> None:
    """Between layers without kinks, at which an adjoint's error is larger."""
    model, mode, inputs = smooth(composed), build(composed, "gradient", gradient), some_series(rows=4).rows()
    found, reference = gradients(model, by(ADAPTIVE, mode), inputs), gradients(model, by(ADAPTIVE), inputs)
    assert found.keys() == dict(model.named_parameters()).keys()
    for parameter, expected in reference.items():
        assert (found[parameter] - expected).norm() < 5e-3 * expected.norm(), parameter


@pytest.mark.parametrize("control", CONTROLS)
def test_counted_is_predicted(composed: Compose, control: str) -> None:
    model, inputs = model_of(composed, "cde", control=control), some_series().rows()
    pieces = 10 if control == "rectilinear" else 5
    for solver, stages in ((RK4(**FIXED), 4), (Midpoint(**FIXED), 2)):
        integrate = by(solver)
        with integrate.ledger.phase("forward") as tally:
            model(inputs, TS, integrate)
        assert (tally.evaluations, tally.accepted) == (stages * pieces, pieces)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model=cde",), False),  # rk4, a step from row to row
        (("model=cde", "model.control=rectilinear"), False),  # two
        (("model=cde", "solver=dopri5", "~solver.num_steps"), True),
        (("model=odernn", "solver=dopri5", "~solver.num_steps"), True),
    ],
)
def test_an_adaptive_solver_that_follows_every_turn_of_a_series_is_told(
    words: tuple[str, ...], told: bool, composed: Compose
) -> None:
    sizes = ("task.points=120", "task.observed=120", "task.train=4", "trainer.batch_size=4", "trainer.device=cpu")
    cfg = composed("task=chirality", *words, *sizes)
    experiment = build_experiment(cfg, dict.fromkeys(("task", "model", "network", "solver", "gradient"), "?"))
    forward = ForwardPass(experiment, phase=Phase.FORWARD)
    batch = next(experiment.task.batches(Split.TRAIN, batch_size=4, epoch=0))
    tally = forward(batch, measure_memory=False).tally
    if told:
        assert not sentence_on_rows(experiment, batch, 4 * 119)
        assert sentence_on_rows(experiment, batch, 4 * 119 + 1).startswith("4.0 evaluations in each of 119 intervals")
    else:
        assert tally.evaluations == (8 if len(words) == 2 else 4) * 119
    said = [forward.remark(), forward.remark()]
    assert ["intervals between rows" in sentence for sentence in said] == [told, False]


def test_an_ode_rnn_takes_a_step_from_row_to_row(composed: Compose) -> None:
    integrate = by(Midpoint(**FIXED))
    with integrate.ledger.phase("forward") as tally:
        model_of(composed, "odernn")(some_series().rows(), TS, integrate)
    assert (tally.evaluations, tally.accepted) == (10, 5)


def test_an_ode_rnn_begins_as_the_gru_that_is_told_the_gaps(composed: Compose) -> None:
    network = build(composed, "network", "sequence", SPEC, hidden=4, width=6)
    flowing, told = (build(composed, "model", name, network) for name in ("odernn", "gru_gaps"))
    told.stem.gru.load_state_dict({f"{name}_l0": p for name, p in flowing.stem.cell.state_dict().items()})
    told.head.load_state_dict(flowing.head.state_dict())
    series = some_series()
    series.values[2, 3, 0] = 0.5  # no row is blank
    one, other = (model(series.rows(), TS, by(Midpoint(**FIXED))).values for model in (flowing, told))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("name", "changed"), [choice for choice in CHOICES if choice[0] in ("cde", "rde")])
def test_numbers_of_observations_are_of_order_one_and_tell_nothing_of_later_rows(
    composed: Compose, name: str, changed: dict[str, Any]
) -> None:
    series = some_series(rows=100)
    model = model_of(composed, name, replace(SPEC, input_shape=(100, 4)), **changed)
    stem = model.stem if isinstance(model, CDE) else model.stem.rows
    counted, early = (stem.path(rows)[0][..., 3:] for rows in (series.rows(), series.rows()[:, :70]))
    assert 0.9 < counted.max() <= 1
    torch.testing.assert_close(counted[:, :70], early, rtol=0, atol=0)
    assert "most" in "".join(model.state_dict()), "with other data the scale is that of training"


@pytest.mark.parametrize(("name", "changed"), [("odernn", {}), ("cde", {"control": "rectilinear"})])
def test_a_forecast_at_a_blank_row_is_the_same_whatever_blank_rows_come_before(
    composed: Compose, name: str, changed: dict[str, Any]
) -> None:
    model = model_of(composed, name, replace(RUNNING, blanks=True), **changed)
    series = some_series()
    series = Series(times=series.times, values=series.values, lengths=torch.full((3,), 6))
    series.values[:, 4:] = torch.nan
    fewer = Series(
        times=series.times[:, [0, 1, 2, 3, 5]], values=series.values[:, [0, 1, 2, 3, 5]], lengths=series.lengths - 1
    )
    integrate = by(RK4(num_steps=16, step_size=None))
    last, same = (model(s.rows(), torch.arange(s.times.shape[1]) * 1.0, integrate).values[-1] for s in (series, fewer))
    torch.testing.assert_close(last, same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["odernn", "gru_gaps"])
def test_the_first_of_a_hundred_rows_has_a_gradient(composed: Compose, name: str) -> None:
    torch.manual_seed(0)
    network = build(composed, "network", "sequence", replace(SPEC, input_shape=(100, 4)), hidden=8, width=6)
    inputs = some_series(blanks=False, rows=100).rows().requires_grad_()
    build(composed, "model", name, network)(inputs, TS, by(Midpoint(**FIXED))).values.sum().backward()
    assert inputs.grad is not None
    of_rows = inputs.grad[[0, 2], :, :2].norm(dim=(0, 2))  # those without padding
    assert of_rows[0] > 1e-3 * of_rows[-1]  # biases as torch draws them: 1e-20


def test_an_ode_rnn_flows_for_one_unit_along_the_longest_series(composed: Compose) -> None:
    series = some_series(blanks=False)
    model = model_of(composed, "odernn", replace(SPEC, duration=series.duration))
    y, gap = torch.randn(3, 4), torch.tensor(series.duration)
    torch.testing.assert_close(model.field(TS[0], y, gap), model.field.inner(TS[0], y))
    assert series.duration == max(float(series.times[i, n - 1] - series.times[i, 0]) for i, n in enumerate((6, 4, 6)))


@pytest.mark.parametrize(("name", "changed"), CHOICES)
def test_padding_company_and_what_padding_holds_change_nothing(
    composed: Compose, name: str, changed: dict[str, Any]
) -> None:
    model, series, integrate = model_of(composed, name, **changed), some_series(), by(RK4(**FIXED))
    together = model(series.rows(), TS, integrate).values
    times, values = series.times[1:2, :4], series.values[1:2, :4]
    alone = model(Series.complete(times, values).rows(), TS, integrate).values
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-13)
    other = series.rows()
    other[1, 4:, :3] = 1e6
    torch.testing.assert_close(model(other, TS, integrate).values, together, rtol=0, atol=0)


def test_without_time_as_a_channel_the_clock_is_of_no_consequence(composed: Compose) -> None:
    series, integrate = some_series(blanks=False), by(RK4(**FIXED))
    warped = replace(series, times=series.times**3 + 2)
    for time in (False, True):
        model = model_of(composed, "cde", replace(SPEC, blanks=False), time=time)
        one, other = (model(s.rows(), TS, integrate).values for s in (series, warped))
        assert torch.equal(one, other) == (not time)


def test_samples_that_step_on_their_own_have_their_own_control(composed: Compose) -> None:
    model, inputs = smooth(composed), some_series(rows=4).rows()
    common, own = by(ADAPTIVE), by(replace(ADAPTIVE, rtol=1e-3, atol=1e-3, per_sample=True))
    together = model(inputs, TS, own).values
    alone = torch.cat([model(inputs[i : i + 1], TS, own).values for i in range(len(inputs))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)  # the second series is shorter
    torch.testing.assert_close(together, model(inputs, TS, common).values, rtol=0, atol=5e-3)
    with own.ledger.each_sample() as watched:
        model(inputs[:1], TS, own)
    assert watched[0].evaluations < 5 * 6 + 3  # one step from row to row: first steps are chosen once, not at each row


@pytest.mark.parametrize("solver", [RK4(**FIXED), pytest.param(ADAPTIVE, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "changed"), ON_THE_WAY)
def test_an_answer_on_the_way_sees_nothing_of_the_future(
    composed: Compose, name: str, changed: dict[str, Any], solver: Solver
) -> None:
    model, integrate, ts = model_of(composed, name, RUNNING, **changed), by(solver), torch.arange(6.0)
    series = some_series(blanks=False)
    series = Series.complete(series.times, series.values)
    values = series.values.clone()
    values[:, 4:] += 1
    known, other = (model(s.rows(), ts, integrate).values for s in (series, replace(series, values=values)))
    assert torch.equal(known[:4], other[:4])
    assert not torch.isclose(known[4], other[4]).any()


@pytest.mark.parametrize(
    ("spec", "changed", "sentence"),
    [
        (RUNNING, {"control": "natural"}, "leads from row to row by all of them. Use model.control=hermite"),
        (replace(RUNNING, blanks=True), {}, "from later rows. Use model.control=rectilinear"),
    ],
)
def test_what_would_see_the_future_is_refused(
    composed: Compose, spec: TaskSpec, changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(IncompatibleChoice, match=sentence):
        model_of(composed, "cde", spec, **changed)


def test_rectilinear_needs_time(composed: Compose) -> None:
    with pytest.raises(RefusedInput, match=r"Use model.time=true, or model.control=linear"):
        model_of(composed, "cde", control="rectilinear", time=False)


@pytest.mark.parametrize("name", OF_SERIES)
def test_states_begin_under_the_stem_and_stand_still_outside_the_rows(composed: Compose, name: str) -> None:
    model, integrate = model_of(composed, name), by(RK4(**FIXED))
    encoding = model.encode(some_series().rows())
    states = model.states(encoding, torch.tensor([0.0, 0.31, 1.0, 1.5]), integrate)
    assert torch.equal(states[0], encoding.y0)
    torch.testing.assert_close(states[3], states[2])
    assert not torch.isclose(states[1], states[2]).all()


@pytest.mark.parametrize(("name", "changed"), CHOICES)
def test_states_on_the_way_are_at_shares_of_the_rows_of_each_series_whatever_its_company(
    composed: Compose, name: str, changed: dict[str, Any]
) -> None:
    model, series, integrate = model_of(composed, name, **changed), some_series(), by(RK4(num_steps=8, step_size=None))
    if name in ("cde", "rde"):
        model.field.matrices[1] = nn.Tanh()  # in place of a ReLU, so that different steps agree
    ts = torch.tensor([0.0, 0.1, 1 / 3, 0.7, 1.0])
    together = model.states(model.encode(series.rows()), ts, integrate)
    shorter = Series.complete(series.times[1:2, :4], series.values[1:2, :4])
    encoding = model.encode(shorter.rows())
    alone = model.states(encoding, ts, integrate)
    torch.testing.assert_close(together[:, 1:2], alone, rtol=0, atol=1e-12)
    if isinstance(model, SolvedSeriesModel):
        at_once = model.along(encoding, ts * model.span(encoding), integrate).ys
        torch.testing.assert_close(alone, at_once, rtol=0, atol=1e-4)
    single = model.encode(series.rows()[:, :1])
    torch.testing.assert_close(model.states(single, ts, integrate), single.y0.expand(len(ts), -1, -1))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cde", "depends on numbers that it reads from tensors). Use part=field, or format=safetensors"),
        ("rde", "a solve with breaks is in no file. Use part=field."),
        pytest.param("gru_gaps", "", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:The tensor attributes")  # of torch's GRU
def test_a_solve_in_a_file_or_what_else_can_be_exported(
    composed: Compose, name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, solves, series = model_of(composed, name).requires_grad_(False), TraceableSolves(RK4(**FIXED)), some_series()
    inputs = Series.complete(series.times, series.values).rows()
    if name == "cde":  # what torch says of it, after seconds
        refusal = RuntimeError("Could not extract specialized integer from data-dependent expression u0")
        monkeypatch.setattr(torch.export, "export", Mock(side_effect=refusal))
    with pytest.raises(IncompatibleChoice) if sentence else nullcontext() as refused:
        model(inputs, TS, solves)
        traced(FrozenModel(model, TS, solves), [inputs], batch=[0])
    assert refused is None or sentence in str(refused.value)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("task=half_moons", "model=cde"), "no rows to read. Use task=area, chirality, series_classes or"),
        (("task=chirality", "network=mlp", "task.missing=0.1"), "lack some numbers, and network=mlp needs all of them"),
        (("task=chirality", "model=cde", "network=mlp"), "no such pieces. Use network=sequence"),
        (("task=chirality", "model=ode_transformer"), "inputs are series of observations. Use task=digits_tokens"),
        (
            ("task=area", "task.running=true"),
            "begins when all rows have been read. Use model=cde, gru_gaps or odernn, or task.running=false.",
        ),
        (
            ("task=area", "task.running=true", "model=rde"),
            "answers at its end. Use model=cde, gru_gaps or odernn, or task.running=false.",
        ),
        (("task=chirality", "network=recurrent_vae"), "asks for something else. Use network=sequence"),
        (("task=chirality", "task.observed=101"), "task.observed must be from 2 to task.points=100"),
        (("task=chirality", "task.missing=1.0"), "from 0 to below 1"),
        (("task=area", "task.points=-1"), "task.points must be at least 2, not -1"),
        (("task=chirality", "task.points=1000000000"), "task.points must be at most 195,312, not 1,000,000,000"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = typed(*words, cwd=tmp_path)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("running", [False, True])
def test_the_true_equation_of_the_area_gives_the_shoelace_sum(composed: Compose, running: bool) -> None:
    how: dict[str, Any] = {"train": 4, "validation": 4, "test": 30, "points": 100, "observed": 30, "noise": 0.01}
    task = Area(running=running, seed=0, device=torch.device("cpu"), **how)
    network = build(composed, "network", "sequence", task.spec)
    model = build(composed, "model", "exact", network)
    batch = next(task.batches(Split.TEST, batch_size=30, epoch=0))
    found = model(batch.inputs, batch.ts, by(Midpoint(**FIXED))).values
    areas = shoelace(*batch.inputs[..., :2].unbind(dim=2))
    torch.testing.assert_close(found, areas.T[..., None] if running else areas[:, -1:], rtol=0, atol=1e-14)


def test_spirals_of_the_two_classes_turn_either_way_and_the_area_tells() -> None:
    how: dict[str, Any] = {"train": 40, "validation": 20, "test": 20, "points": 100, "observed": 40, "noise": 0.01}
    how |= {"seed": 0, "device": torch.device("cpu")}
    task = Chirality(missing=0.2, **how)
    rows = task.splits[Split.TRAIN].inputs
    assert rows[..., :2].isnan().double().mean().item() == pytest.approx(0.2, abs=0.03)
    assert (rows[:, 1:, 2] > rows[:, :-1, 2]).all()
    area = Area(running=False, **how)
    batch = next(area.batches(Split.TEST, batch_size=20, epoch=0))
    again = shoelace(*batch.inputs[..., :2].double().unbind(dim=2))[:, -1]
    torch.testing.assert_close(batch.targets[:, 0].double(), again, rtol=0, atol=1e-6)
    assert (batch.targets.abs() > 0.2).all()
    assert (batch.targets > 0).sum() == 10
