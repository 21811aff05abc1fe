"""`import ode_runner as ode`: the same runs as the command line's, and the engine alone."""

import copy
import math
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.api.answers import path_of
from ode_runner.api.training import RunFailed
from ode_runner.batch import Split
from ode_runner.commands.log_densities import write_log_densities
from ode_runner.config.help import conf_dir
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.event import Event, Jumps
from ode_runner.field import StochasticField, VectorField
from ode_runner.noise.brownian_path import BrownianPath, Noise
from ode_runner.recording.display import Display
from ode_runner.solvers.explicit.rk4 import RK4
from tests.helpers import run_folder, typed

TIMES = torch.tensor([0.0, 1.0])
SMALL = ("task.train=40", "task.validation=20", "task.test=20", "trainer.epochs=2", "logger=none", "pictures=false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> ode.Run:
    folder = tmp_path_factory.mktemp("api")
    return ode.train(*SMALL, f"output_dir={folder}")


def test_importing_it_waits_for_nothing() -> None:
    loaded = "import sys, ode_runner; print(ode_runner.__version__, 'torch' in sys.modules, 'hydra' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert out.split() == [ode.__version__, "False", "False"]


def test_a_run_is_the_one_that_the_command_line_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = ode.train(*SMALL)
    assert typed(*SMALL, "output_dir=typed", cwd=tmp_path).returncode == 0
    (record,) = (tmp_path / "typed").rglob("record.json")
    assert mine.folder.name == record.parent.name
    assert ode.load(record.parent).results == mine.results
    assert "completed in" in (mine.folder / "ode-run.log").read_text()
    assert (mine.folder / ".hydra/overrides.yaml").is_file()
    again = ode.train(*SMALL)  # which is loaded, not made once more
    assert again.record.finished == mine.record.finished
    assert not GlobalHydra.instance().is_initialized()


def test_it_is_asked_as_an_object(trained: ode.Run) -> None:
    inputs = [[0.5, 0.25], [-1.0, 0.0]]
    assert trained.predict(inputs).shape == (2, 2)
    states = trained.states(inputs, [0.0, 0.5, 1.0])
    torch.testing.assert_close(trained.predict(inputs), trained.model.head(states[-1]), atol=1e-5, rtol=1e-4)
    assert trained.metrics.loc[:, "train/loss"].notna().sum() == 2
    assert trained.results["test/accuracy"] == trained.record.metrics["test/accuracy"]
    assert trained.config == trained.record.config
    assert trained.config["trainer"]["epochs"] == 2
    assert "flow" in trained.figures()


def test_outputs_at_times_are_of_a_solve_from_the_tasks_first(tmp_path: Path) -> None:
    """A solve from the first time typed took the initial state for the one there."""
    sizes = ("task.train=4", "task.validation=2", "task.test=2", "network.width=4")
    words = ("task=lotka_volterra", "trainer.max_steps=1", "pictures=false", *sizes, f"output_dir={tmp_path}")
    run, inputs = ode.train(*words), [[1.0, 2.0]]
    whole = run.predict(inputs, [0.0, 1.0, 2.0])
    torch.testing.assert_close(run.predict(inputs, [1.0, 2.0]), whole[1:], atol=1e-4, rtol=1e-4)
    assert run.predict(inputs, [1.0]).shape == (1, 1, 2)
    with pytest.raises(RefusedInput, match="times begin at -1, before the task does at 0"):
        run.predict(inputs, [-1.0, 1.0])


def test_the_class_at_a_time_is_that_of_a_solve_from_the_tasks_first(trained: ode.Run) -> None:
    inputs = [[0.5, 0.25]]
    torch.testing.assert_close(trained.predict(inputs, [0.5, 1.0]), trained.predict(inputs), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(trained.predict(inputs, [1.0]), trained.predict(inputs), atol=1e-4, rtol=1e-4)


def test_a_run_is_shown_in_one_line(trained: ode.Run) -> None:
    shown = repr(trained)
    assert shown.startswith(f"<Run task={trained.record.choices['task']} model=")
    assert shown.endswith(f" seed={trained.record.seed}, {trained.folder}>")
    assert "\n" not in shown


def test_the_field_is_the_derivative_of_its_states(trained: ode.Run) -> None:
    states = ode.load(trained.folder, "solver=rk4", "solver.num_steps=100").states([[0.5, 0.25]], [0.5, 0.51, 0.52])
    slope = (states[2] - states[0]) / 0.02
    torch.testing.assert_close(trained.field(0.51, states[1]), slope, atol=2e-3, rtol=2e-2)


def test_an_equation_without_a_derivative_is_refused(tmp_path: Path) -> None:
    words = ("task=ou", "model=sde", "network.width=4", "task.train=8", "task.points=5", "task.fine=32")
    run = ode.train(*words, "trainer.max_steps=1", "logger=none", "pictures=false", f"output_dir={tmp_path}")
    with pytest.raises(IncompatibleChoice, match="model=sde has no derivative, but drift and diffusion"):
        run.field(0.1, torch.zeros(1, 1))


@pytest.mark.parametrize(
    ("words", "takes"),
    [
        (("task=half_moons", "model=odenet"), "of shape (batch, 2), not (1, 5)"),
        (("task=half_moons", "model=data_controlled"), "1 more, of shapes (batch, 2) and (batch, 2), not (1, 5)"),
        (
            ("task=density2d", "model=flow_matching", "task.conditional=true", "task.grid=10"),
            "(batch, 2) and (batch, 8), not (1, 5)",
        ),
    ],
)
def test_a_field_asked_with_other_shapes_says_which_it_takes(
    tmp_path: Path, words: tuple[str, ...], takes: str
) -> None:
    run = ode.train(*SMALL, *words, "network.width=4", "trainer.max_steps=1", f"output_dir={tmp_path}")
    with pytest.raises(RefusedInput, match=re.escape(takes)):
        run.field(0.1, torch.zeros(1, 5))


def test_tab_offers_what_there_is() -> None:
    assert set(ode.__all__) <= set(dir(ode))
    assert (ode.RefusedInput, ode.RunFailed) == (RefusedInput, RunFailed)
    assert "importlib" not in dir(ode)


def test_what_draws_samples_alone_says_nothing_of_inputs(tmp_path: Path) -> None:
    """These ended in a NotImplementedError."""
    small = ("task.train=20", "task.validation=10", "task.test=10", "task.samples=20", "logger=none", "pictures=false")
    run = ode.train("task=tiny_table", "model=exact", *small, f"output_dir={tmp_path}")
    tokens = run.sample(2).path[-1]
    for asked in (run.predict, run.states, run.log_prob):
        with pytest.raises(IncompatibleChoice):
            asked(tokens)
    with pytest.raises(IncompatibleChoice, match=r"model=exact gives no answers to inputs here.* Use run.sample\(4\)"):
        run.predict(tokens)


def test_a_true_field_has_a_log_density_where_its_task_asks_for_one(tmp_path: Path) -> None:
    """States stood for a density, without a word."""
    places = ("logger=none", "pictures=false", f"output_dir={tmp_path}")
    run = ode.train("task=closed_form", "model=exact", "task.problem=circle", *places)
    with pytest.raises(IncompatibleChoice, match="model=exact gives no log density"):
        run.log_prob([[1.0, 0.0]])


def test_samples_and_densities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("task.train=20", "task.validation=20", "task.test=20", "network.width=8")
    words = ("task=density2d", "model=cnf", "trainer.max_steps=2", "logger=none", "pictures=false", *sizes)
    density = ode.train(*words, f"output_dir={tmp_path}")
    drawn = density.sample(5)
    assert drawn.path.shape == (2, 5, 2)
    _check_seeds(density)
    torch.testing.assert_close(density.log_prob(drawn.path[-1]), drawn.log_density, atol=0.01, rtol=0.01)
    for asked in (lambda run: run.log_prob(drawn.path[-1]), lambda run: run.sample(5)):
        coarse = ode.load(density.folder, "solver=euler", "solver.num_steps=1")
        for parameter in coarse.model.parameters():
            parameter.data.mul_(3)
        with pytest.warns(UserWarning, match="nats off those of a fine solve"):
            asked(coarse)
        asked(coarse)  # no further warning, and no further fine solve
    write_log_densities(coarse.experiment, coarse.experiment.task, folder=tmp_path)
    assert "nats off those of a fine solve" in capsys.readouterr().out


def _check_seeds(run: ode.Run) -> None:
    """Samples depend on `seed` only, not on torch's; fewer are the first of more; no numbers of samples are refused."""
    few, many, others = run.sample(3).path, run.sample(10).path, run.sample(3, seed=5).path
    torch.manual_seed(1)
    torch.testing.assert_close(run.sample(3).path, few, atol=0, rtol=0)
    torch.testing.assert_close(run.sample(3, seed=5).path, others, atol=0, rtol=0)
    torch.testing.assert_close(many[:, :3], few, atol=0.01, rtol=0.01)
    assert not bool((few == others).any())
    for wrong in ({"count": 0}, {"count": 2.5}, {"count": True}, {"count": 3, "times": 0}, {"count": 3, "seed": -1}):
        with pytest.raises(RefusedInput, match=r"(count|times|seed)=\S+ is no whole number from [01] to "):
            run.sample(**wrong)


def test_runs_are_a_table(trained: ode.Run) -> None:
    assert trained.metrics.index.name == "step"
    assert trained.metrics.index[-1] == trained.record.cost["steps"]
    table = ode.runs(trained.folder.parent)
    assert list(table["folder"]) == [str(trained.folder)]
    assert table.loc[0, "solver.rtol"] == 1e-3
    assert table.loc[0, "test/accuracy"] == trained.results["test/accuracy"]


class Decay(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.7))

    def forward(self, t: Tensor, y: Tensor, *given: Tensor) -> Tensor:
        return -self.rate * y + sum(given)


@pytest.mark.slow
def test_a_solver_that_draws_noise_follows_no_input(tmp_path: Path) -> None:
    sizes = ("task.train=20", "task.validation=8", "task.test=8", "task.grid=8", "network.width=4")
    words = ("task=density2d", "model=diffusion", "solver=euler", *sizes, "trainer.max_steps=1", "logger=none")
    assert typed(*words, cwd=tmp_path).returncode == 0
    folder = run_folder(tmp_path)
    ended = typed(f"predict={folder}", "solver=ddpm", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "8 points" in ended.stdout
    assert not list(folder.rglob("states.csv"))
    said = "solver=ddpm draws noise on its way, and follows no input. Ask for samples, or use a solver that draws none"
    assert said in typed(f"predict={folder}", "solver=ddpm", "inputs=[[1.0,2.0]]", cwd=tmp_path).stderr
    run = ode.load(folder, "solver=ddpm")
    for asked in (run.log_prob, run.predict, run.states):
        with pytest.raises(IncompatibleChoice, match=said):
            asked([[1.0, 2.0]])
    assert run.sample(2).path.shape == (2, 2, 2)
    _check_seeds(run)


def test_series_of_the_test_have_as_many_rows_as_were_recorded(tmp_path: Path) -> None:
    words = ("task=series_forecast", "model=odernn", "solver=euler", "solver.num_steps=1", "network.width=4")
    assert typed(*words, "trainer.max_steps=1", "logger=none", cwd=tmp_path).returncode == 0
    run = ode.load(run_folder(tmp_path))
    (tested,) = run.experiment.task.batches(Split.TEST, batch_size=2, epoch=0)
    assert tested.inputs.shape[1:] != run.experiment.task.spec.input_shape
    assert run.predict(tested.inputs).shape == tested.targets.shape
    with pytest.raises(RefusedInput, match=r"must be \(batch, 15, 4\) or \(batch, 11, 4\)"):
        run.predict(tested.inputs[:, 1:])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "adjoint"])
def test_the_engine_alone(gradient: str) -> None:
    field, y0 = Decay().double(), torch.ones(3, 1, requires_grad=True)
    given = torch.full((3, 1), 0.2, requires_grad=True)
    solution = ode.integrate(
        field, y0, torch.tensor([0.0, 2.0]), gradient=gradient, given=[given], rtol=1e-9, atol=1e-9
    )
    rate, end = field.rate.detach(), torch.exp(-2 * field.rate.detach())
    torch.testing.assert_close(solution.ys[-1], (end + 0.2 * (1 - end) / rate).expand(3, 1), rtol=1e-7, atol=0)
    solution.ys[-1].sum().backward()
    torch.testing.assert_close(y0.grad, end.expand(3, 1), rtol=1e-6, atol=0)
    torch.testing.assert_close(given.grad, ((1 - end) / rate).expand(3, 1), rtol=1e-6, atol=0)
    by_rate = -2 * end + 0.2 * (2 * end / rate - (1 - end) / rate**2)
    torch.testing.assert_close(field.rate.grad, 3 * by_rate, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("float64")
def test_the_engine_alone_takes_events_and_jumps() -> None:
    ts, y0 = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([[1.0], [2.0]])
    half = Event(lambda t, y: y[:, 0] - 0.5, direction=-1)
    ended = ode.integrate(lambda t, y: -y, y0, ts, event=half, per_sample=True, rtol=1e-9, atol=1e-9)
    assert ended.events is not None
    torch.testing.assert_close(ended.events.times, torch.tensor([[2.0, 4.0]]).log(), rtol=1e-7, atol=0)
    dosed = ode.integrate(lambda t, y: -y, y0, ts, jumps=Jumps([1.0], lambda t, y: y + 1), rtol=1e-9, atol=1e-9)
    expected = (y0 * torch.exp(-ts[1]) + 1) * torch.exp(-ts[1])
    torch.testing.assert_close(dosed.ys[-1], expected, rtol=1e-7, atol=0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("options", [{"solver": "rk4", "num_steps": 20}, {"solver": "tsit5", "per_sample": True}])
def test_compiled_solves_are_those_of_the_engine(options: dict[str, Any]) -> None:
    field, ts, given = Decay().double(), torch.tensor([0.0, 0.5, 2.0]), [torch.full((3, 1), 0.2)]
    y0 = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    solve = ode.compile(field, y0, ts, given=given, **options)
    assert field.rate.grad is None
    assert y0.grad is None
    expected = ode.integrate(field, y0, ts, given=given, **options).ys
    found = solve(y0, ts, given=given).ys
    torch.testing.assert_close(found, expected)
    assert type(found.grad_fn) is not type(expected.grad_fn)
    torch.testing.assert_close(*(torch.autograd.grad(ys.square().sum(), [y0, field.rate]) for ys in (found, expected)))


@pytest.mark.usefixtures("float64")
def test_compiled_solves_of_a_field_without_parameters() -> None:
    y0, ts, calls = torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 1.0]), list[Tensor]()

    def decay(t: Tensor, y: Tensor) -> Tensor:
        calls.append(t)
        return -y

    solve = ode.compile(decay, y0, ts, rtol=1e-9, atol=1e-9)
    calls.clear()
    assert not solve(y0, ts).ys.requires_grad
    assert not calls, "what nobody differentiates is compiled as well"
    y0.requires_grad_()
    ys = solve(y0, ts).ys
    torch.testing.assert_close(ys[-1], y0 * torch.exp(-ts[-1]), rtol=1e-7, atol=0)
    ys[-1].sum().backward()
    torch.testing.assert_close(y0.grad, torch.exp(-ts[-1]).expand(2, 1), rtol=1e-7, atol=0)
    y0.grad, ys = None, solve(y0, moved := ts.clone()).ys
    moved.mul_(3)  # after the solve, and before its backward pass
    ys[-1].sum().backward()
    torch.testing.assert_close(y0.grad, torch.exp(-ts[-1]).expand(2, 1), rtol=1e-7, atol=0)
    of_others = solve(torch.ones(5, 1), ts).ys[-1]  # of another shape: uncompiled
    torch.testing.assert_close(of_others, torch.exp(-ts[-1]).expand(5, 1), rtol=1e-7, atol=0)


@pytest.mark.usefixtures("float64")
def test_a_tolerance_is_both_of_a_solvers() -> None:
    y0, ts = torch.ones(1, 1), torch.tensor([0.0, 1.0])
    expected = ode.integrate(lambda t, y: -y, y0, ts, rtol=1e-6, atol=1e-6)
    assert torch.equal(ode.integrate(lambda t, y: -y, y0, ts, tolerance=1e-6).ys, expected.ys)


@pytest.mark.usefixtures("float64")
def test_threads_may_solve_at_the_same_time() -> None:
    y0, ts = torch.ones(1, 1), torch.tensor([0.0, 1.0])
    with ThreadPoolExecutor(3) as pool:
        ends = pool.map(lambda rtol: ode.integrate(lambda t, y: -y, y0, ts, rtol=rtol).ys[-1], (1e-4, 2e-4, 3e-4))
        torch.testing.assert_close(torch.stack([*ends]), torch.exp(-ts[-1]).expand(3, 1, 1), rtol=1e-3, atol=0)


def test_threads_train_and_load_in_turn(trained: ode.Run, tmp_path: Path) -> None:
    def made(seed: int, folder: str) -> float:
        words = (*SMALL, "trainer.epochs=1", f"seed={seed}", f"output_dir={tmp_path / folder}")
        return ode.train(*[word for word in words if word != "trainer.epochs=2"]).results["test/loss"]

    with ThreadPoolExecutor(4) as pool:
        loaded = [pool.submit(ode.load, trained.folder) for _ in range(2)]
        together = [*pool.map(made, (1, 2), ("together", "together"))]
    assert together == [made(1, "alone"), made(2, "alone")]
    x = [[0.5, 0.25]]
    assert all(torch.equal(one.result().predict(x), trained.predict(x)) for one in loaded)


class ShortSteps(VectorField):
    @property
    def longest_step(self) -> float:
        return 0.05

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -y


class Relaxing(StochasticField):
    def drift(self, t: Tensor, y: Tensor) -> Tensor:
        return -y

    def diffusion(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.5 * torch.ones_like(y)


class Switched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.rate * y if self.training else self.rate * y


@pytest.mark.usefixtures("float64")
def test_a_compiled_field_without_parameters_stays_of_its_kind() -> None:
    y0, ts = torch.ones(3, 1), torch.tensor([0.0, 1.0])
    assert ode.compile(ShortSteps(), y0, ts)(y0, ts).accepted == ode.integrate(ShortSteps(), y0, ts).accepted >= 20
    noise = Noise(path=BrownianPath(seed=0, cells=8, depth=0), samples=torch.arange(3))
    options: dict[str, Any] = {"solver": "euler_maruyama", "num_steps": 8}
    solve = ode.compile(field := Relaxing(), y0, ts, noise=noise, **options)
    torch.testing.assert_close(solve(y0, ts, noise=noise).ys, ode.integrate(field, y0, ts, noise=noise, **options).ys)
    assert not list(field.parameters()), "the caller's own is as it was"


@pytest.mark.usefixtures("float64")
def test_a_compiled_module_in_the_other_mode_is_that_other_function() -> None:
    y0, ts, module = torch.ones(3, 1), torch.tensor([0.0, 1.0]), Switched()
    solve = ode.compile(module, y0, ts)
    for training in (True, False):
        module.train(training)
        torch.testing.assert_close(solve(y0, ts).ys, ode.integrate(module, y0, ts).ys)
    module.requires_grad_(False)
    solve = ode.compile(module, y0, ts)
    module.requires_grad_(True)
    assert solve(y0, ts).ys.requires_grad


def test_a_loaded_run_tells_the_solver_that_it_has(trained: ode.Run) -> None:
    other = ode.load(trained.folder, "solver=euler", "solver.num_steps=1")
    assert " solver=euler " in repr(other)
    assert other.config["solver"]["_target_"].endswith(".Euler")
    assert other.config["solver"]["num_steps"] == 1
    assert other.record == trained.record
    assert other.config | {"solver": trained.config["solver"]} == trained.config
    with pytest.warns(UserWarning, match="tolerance=1e-9 is not used: steps are fixed"):
        ode.load(trained.folder, "solver=euler", "tolerance=1e-9")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda run: ode.train("model=odnet"), "Did you mean 'odenet'"),
        (lambda run: ode.train("seed=0,1"), "asks for 2 runs"),
        (lambda run: ode.train("grid=solvers"), "asks for many runs"),
        (lambda run: ode.train("-m", "seed=1"), "a flag has no place here"),
        (lambda run: ode.train(f"evaluate={run.folder}"), "ode.load"),
        (lambda run: ode.train(config_dirs=["nowhere"]), "does not exist"),
        (lambda run: ode.load("nowhere"), "there is no such folder"),
        (lambda run: ode.load(run.folder, "task=digits"), "task=digits: load takes the run as it is"),
        (lambda run: ode.load(run.folder, "trainer.epochs=30"), "trainer.epochs=30 is of training, and load trains no"),
        (lambda run: ode.load(run.folder, "optimizer.lr=5"), "is of training"),
        (lambda run: ode.load(run.folder, "optimizer=sgd"), "is of training"),
        (lambda run: ode.load(run.folder, "schedule=cosine"), "is of training"),
        (lambda run: ode.load(run.folder, "logger=none"), "is of training"),
        (lambda run: ode.load(run.folder, "rerun=true"), "is of training"),
        (lambda run: ode.load(run.folder, "plan=true"), "is of training"),
        (lambda run: run.predict([[1.0]]), r"must be \(batch, 2\)"),
        (lambda run: run.predict([["a", 0.5]]), "must be numbers, in a tensor, an array, or lists of one length"),
        (lambda run: run.predict([[1.0, 2.0], [1.0]]), "lists of one length"),
        (lambda run: run.predict([[math.nan, 0.5]]), "must be finite, and nan is among them"),
        (lambda run: run.states([[0.5, math.inf]]), "must be finite, and inf is among them"),
        (lambda run: run.predict([[1.0, 2.0]], ["soon"]), "must be numbers"),
        (lambda run: run.field(0.0, [["a", 0.5]]), "must be numbers"),
        (lambda run: path_of(pd.DataFrame()), "data is the path of a file, and a DataFrame is none"),
        (lambda run: run.predict([[1.0, 2.0]], [1.0, 0.0]), "each larger"),
        (lambda run: run.sample(3), "gives no samples"),
        (lambda run: run.log_prob([[1.0, 2.0]]), "gives no log density"),
        (lambda run: ode.runs("nowhere"), "no folder"),
        (lambda run: solve("dopri4"), "Did you mean 'dopri5' or 'dopri8'"),
        (lambda run: solve("lsoda"), "nothing can be differentiated"),
        (lambda run: solve("rk4", rtol=1e-3), "no option 'solver.rtol'. It belongs to solver=adaptive_heun"),
        (lambda run: ode.integrate(Decay(), [[1.0]], TIMES), r"must be a tensor \(batch, \*state\), and is a list"),
        (lambda run: ode.compile(Decay(), [[1.0]], TIMES), r"must be a tensor \(batch, \*state\), and is a list"),
        (
            lambda run: ode.compile(halves, torch.ones(1, 2), TIMES),
            r"halves must give .*\(1, 2\), and gave",
        ),
        (
            lambda run: ode.compile(Decay(), torch.ones(1, 1), TIMES, solver="dopri8"),
            "Decay cannot be compiled: outputs within a step",
        ),
        (lambda run: ode.integrate(Decay(), torch.ones(1, 1), [0, 2.0]), r"Give torch.tensor\(\[0.0, 2.0\]\)"),
        (
            lambda run: ode.integrate(halves, torch.ones(1, 2), TIMES),
            r"halves must give .*\(1, 2\), and gave",
        ),
        (lambda run: solve("dopri5", gradient="symplectic", per_sample=True), "every sample has its own"),
        (lambda run: ode.integrate(Relaxing(), torch.ones(1, 1), TIMES), "Use solver=euler_maruyama, or another for"),
        (lambda run: solve("srk", num_steps=4), "or make the field a subclass of StochasticField"),
        (lambda run: solve("dopri5", gradient="reversible"), "gradient=reversible .* solver=dopri5 is adaptive"),
    ],
)
def test_what_is_refused_is_a_sentence(asked: object, says: str, trained: ode.Run) -> None:
    with pytest.raises(RefusedInput, match=says):
        asked(trained)  # type: ignore[operator]


def test_a_run_with_own_choices_and_several_regularizers_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    shutil.copy(conf_dir() / "model" / "odenet.yaml", own := tmp_path / "conf" / "model" / "mine.yaml")
    words = (*SMALL, "model=mine", "regularizer=[kinetic,spectral]", f"output_dir={tmp_path}")
    made = ode.train(*words, config_dirs=[own.parents[1]])
    assert ode.load(made.folder, config_dirs=[own.parents[1]]).predict([[0.5, 0.25]]).shape == (1, 2)
    with pytest.raises(RefusedInput, match=r"where its model=mine is. Give load config_dirs=\["):
        ode.load(made.folder)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_field_of_another_precision_than_its_state_is_named(kind: torch.dtype) -> None:
    """Times of NumPy are in double precision, and the state takes the finer one."""
    other, field = torch.float64 if kind is torch.float32 else torch.float32, Decay().to(kind)
    field.forward = lambda t, y: nn.functional.linear(y, field.rate.reshape(1, 1))  # type: ignore[method-assign]
    ts = TIMES.to(other)
    with pytest.raises(RefusedInput, match=f"Decay has parameters of {kind}, and its state is {other}, the finer"):
        ode.integrate(field, torch.ones(1, 1), ts)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_compiled_solves_are_not_copied(copied: Callable[[object], object]) -> None:
    solve = ode.compile(Decay(), torch.ones(1, 1), TIMES, solver="rk4")
    with pytest.raises(RefusedInput, match="compiled solves are of one object, Decay, and are neither copied nor"):
        copied(solve)


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint", "symplectic"])
def test_a_layer_that_a_function_reads_belongs_into_a_module(gradient: str) -> None:
    layer, shift = nn.Linear(1, 1), torch.ones(1, requires_grad=True)
    with pytest.raises(RefusedInput, match="make the field a module that holds it, or the layer that it belongs to"):
        ode.integrate(lambda t, y: layer(y), torch.ones(1, 1), TIMES, gradient=gradient)
    with pytest.raises(RefusedInput, match="hand the tensor over, with a row for every sample"):
        ode.integrate(lambda t, y: y + shift * 1.0, torch.ones(1, 1), TIMES, gradient=gradient)


def test_a_discrete_model_of_ones_own_choices_has_no_states(tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    shutil.copy(conf_dir() / "model" / "resnet.yaml", own := tmp_path / "conf" / "model" / "mine.yaml")
    words = (*SMALL, "model=mine", f"output_dir={tmp_path}")
    discrete = ode.train(*words, config_dirs=[own.parents[1]])
    assert (discrete.record.choices["model"], discrete.record.config_dirs) == ("mine", [str(own.parents[1])])
    with pytest.raises(RefusedInput, match="Give load config_dirs="):
        ode.load(discrete.folder)
    again = ode.load(discrete.folder, config_dirs=[own.parents[1]])
    assert torch.equal(again.predict([[0.0, 0.0]]), discrete.predict([[0.0, 0.0]]))
    assert discrete.predict([[0.0, 0.0]]).shape == (1, 2)
    with pytest.raises(IncompatibleChoice, match="has blocks and no time between them. Leave times out"):
        discrete.predict([[0.0, 0.0]], [0.0, 2.0])
    with pytest.raises(IncompatibleChoice, match=r"has blocks and no time between them: inputs have no states\.$"):
        discrete.states([[0.0, 0.0]])
    for asked in (lambda: discrete.states([[0.0, 0.0]]), lambda: discrete.field(0.0, torch.zeros(1, 2))):
        with pytest.raises(IncompatibleChoice):
            asked()


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="solver_failed: solver=dopri5 stopped"):
        ode.train(*SMALL, "optimizer=sgd", "optimizer.lr=1e18", "optimizer.momentum=0", f"output_dir={tmp_path}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_as_a_run_ends_stops_the_program_too(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Display, "outcome", lambda *_: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt):
        ode.train(*SMALL, f"output_dir={tmp_path}")
    assert ode.load(run_folder(tmp_path)).record.status == "completed"


class Unmade(nn.Module):
    def __init__(self) -> None:
        pass

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -y


def halves(t: Tensor, y: Tensor) -> Tensor:
    return y[:, :1]


def solve(solver: str, *, gradient: str = "backprop", **options: object) -> object:
    return ode.integrate(
        lambda t, y: -y, torch.ones(1, 1), torch.tensor([0.0, 1.0]), solver=solver, gradient=gradient, **options
    )


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        (
            nn.Linear(1, 1),
            (),
            "is called with (t, y): time, state and what is given. Wrap it: a module of your own that holds it",
        ),
        (lambda y: -y, (), "<lambda> takes (y), and is called with (t, y)"),
        (lambda t, y: -y, (torch.ones(1, 1),), "is called with (t, y, z1)"),
        (nn.Linear, (), "Linear is a class"),
        ("odenet", (), "a field is a module or a function f(t, y), and this is a str."),
        (Unmade(), (), "Unmade.__init__ does not call super().__init__()"),
        (lambda t, y, z: -y, torch.ones(1, 1), "given is a list of tensors, given=[z], and this is a Tensor."),
        (lambda t, y, z: -y, None, "given is a list of tensors, given=[z], and this is a NoneType."),
    ],
)
def test_what_cannot_be_called_as_a_field_is_refused_by_its_arguments(field: Any, given: Any, said: str) -> None:
    with pytest.raises(RefusedInput, match=re.escape(said)):
        ode.integrate(field, torch.ones(1, 1), torch.tensor([0.0, 1.0]), given=given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"integrals": halves}, "integrals are named, integrals={'price': ode_runner.integral.Integral("),
        ({"integrals": {"price": halves}}, "and one is a function"),
        ({"breaks": 0.5}, "breaks is a list of times, breaks=[0.5], and this is a float"),
        ({"solver": None}, "solver is a name, such as 'dopri5', or an object of a Solver, not a NoneType"),
        ({"solver": RK4}, "not the class RK4"),
        ({"solver": RK4(num_steps=2, step_size=None), "num_steps": 9}, "num_steps: of a solver that is an object"),
        ({"gradient": True}, "gradient is a name, such as 'backprop', or an object of a GradientMode, not a bool"),
        ({"y0": torch.ones(1, 1).bfloat16(), "ts": TIMES.bfloat16()}, "state and times are torch.bfloat16, which"),
    ],
)
def test_what_a_solve_is_asked_for_is_of_the_kinds_that_it_says(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedInput, match=re.escape(said)):
        ode.integrate(lambda t, y: -y, **({"y0": torch.ones(1, 1), "ts": TIMES} | options))


def test_numbers_of_numpy_and_torch_are_options() -> None:
    for tolerance in (np.float64(1e-6), np.float32(1e-6), torch.tensor(1e-6)):
        found = ode.integrate(lambda t, y: -y, torch.ones(1, 1), TIMES, tolerance=tolerance)
        assert found.accepted == ode.integrate(lambda t, y: -y, torch.ones(1, 1), TIMES, tolerance=1e-6).accepted
    assert ode.integrate(lambda t, y: -y, torch.ones(1, 1), TIMES, solver="rk4", num_steps=np.int64(3)).accepted == 3


def test_names_of_torchdiffeq_are_answered() -> None:
    with pytest.raises(RefusedInput, match="method='rk4' is solver='rk4' here"):
        ode.integrate(lambda t, y: -y, torch.ones(1, 1), torch.tensor([0.0, 1.0]), method="rk4")


def test_words_are_texts() -> None:
    words: Any = ["task=half_moons"]
    with pytest.raises(RefusedInput, match="the words are texts, and a list is none"):
        ode.train(words)
