"""Exported files hold what the model computes, for batches of any size, and say so."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.exporting.formats import traced
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.recorded import in_turn
from ode_runner.problem import Problem
from tests.helpers import TINY, run_folder, typed

FIXED = ("solver=rk4", "solver.num_steps=3")
INPUTS = [[0.5, 0.25], [-1.0, 0.0], [0.1, 0.7], [1.5, -0.3], [0.0, 0.0]]


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    assert typed(*TINY, "trainer.epochs=2", "logger=none", cwd=root).returncode == 0
    return run_folder(root)


def exported(folder: Path, *words: str, name: str) -> Path:
    ended = typed(f"export={folder}", *words, cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "opened again, its answer to 3 samples is the model's" in ended.stdout or "equal to the bit" in ended.stdout
    [path] = folder.glob(f"exports/*/{name}")
    return path


@pytest.mark.slow
def test_the_field_is_exported_for_any_batch(folder: Path) -> None:
    program = torch.export.load(exported(folder, name="field.pt2")).module()
    run, y = ode.load(folder), torch.tensor(INPUTS)
    torch.testing.assert_close(program(torch.tensor(0.3), y), run.field(0.3, y))
    said = json.loads(exported(folder, name="export.json").read_text())
    assert said["arguments"] == {"t": [], "y": ["batch", 2]}


def test_the_solve_is_exported_with_its_steps(folder: Path) -> None:
    program = torch.export.load(exported(folder, "part=solve", *FIXED, name="solve.pt2")).module()
    run = ode.load(folder, *FIXED)
    torch.testing.assert_close(program(torch.tensor(INPUTS)), run.predict(INPUTS))
    assert json.loads(next(folder.glob("exports/*/export.json")).read_text())["answer"] == ["batch", 2]


def test_a_run_is_exported_from_python(folder: Path, tmp_path: Path) -> None:
    run, y = ode.load(folder, *FIXED), torch.tensor(INPUTS)
    answer = torch.export.load(run.export(tmp_path / "field")).module()(torch.tensor(0.3), y)
    torch.testing.assert_close(answer, run.field(0.3, y))
    path = run.export(tmp_path / "solve", part="solve")
    assert path == tmp_path / "solve" / "solve.pt2"
    torch.testing.assert_close(torch.export.load(path).module()(y), run.predict(y))
    assert all(weight.requires_grad for weight in run.model.parameters()), "the run is as it was"
    with pytest.raises(RefusedInput, match="format=pickle: there is none of this name"):
        run.export(tmp_path, format="pickle")


@pytest.mark.slow
@needs("onnx", "onnxscript", "onnxruntime")
@pytest.mark.parametrize("part", ["field", "solve"])
def test_onnx_runtime_says_the_same(folder: Path, part: str) -> None:
    import onnxruntime

    path = exported(folder, "format=onnx", f"part={part}", *FIXED, name=f"{part}.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    y = np.array(INPUTS, dtype=np.float32)
    given = [np.array(0.3, dtype=np.float32), y] if part == "field" else [y]
    [said] = session.run(None, {one.name: x for one, x in zip(session.get_inputs(), given, strict=True)})
    run = ode.load(folder, *FIXED)
    expected = run.field(0.3, INPUTS) if part == "field" else run.predict(INPUTS)
    np.testing.assert_allclose(said, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


@needs("safetensors")
def test_weights_are_those_of_the_model(folder: Path) -> None:
    from safetensors.torch import load_file

    found = load_file(exported(folder, "format=safetensors", name="weights.safetensors"))
    weights = ode.load(folder).model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("part=solve",),
            "solver=dopri5 is no fixed-step explicit Runge-Kutta method. Type another, such as solver=rk4",
        ),
        (("format=pickle",), "format=pickle: there is none of this name. Available: torch_export, onnx, safetensors"),
        (("part=head",), "part=head: there is none of this name. Available: field, solve"),
    ],
)
def test_what_is_in_no_file_is_refused(folder: Path, words: tuple[str, ...], sentence: str) -> None:
    ended = typed(f"export={folder}", *words, cwd=folder)
    assert (ended.returncode, sentence in ended.stderr) == (2, True), ended.stderr


def test_a_field_without_a_derivative_is_refused(tmp_path: Path) -> None:
    sizes = ("task.train=4", "task.validation=4", "task.test=4", "solver.num_steps=4", "logger=none")
    assert typed("task=gbm", "model=exact", *sizes, cwd=tmp_path).returncode == 0
    ended = typed(f"export={run_folder(tmp_path)}", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "that of model=exact has no derivative, but drift and diffusion. Use format=safetensors." in ended.stderr


def test_a_model_that_cannot_be_asked_is_refused_by_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evolve(*arguments: object) -> None:
        raise NotImplementedError("there are no states here")

    monkeypatch.setattr("ode_runner.models.depth.odenet.ODENet.evolve", evolve)
    ended = typed(f"export={folder}", cwd=folder)
    assert ended.returncode == 2
    assert "model=odenet: there are no states here, so that there is no field for a file. Use format=" in ended.stderr


class OfThree(nn.Module):
    """Code that holds for three samples alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(3, 2) if x.shape[0] == 3 else x


def test_a_model_of_so_many_samples_is_refused_in_our_words() -> None:
    with pytest.raises(IncompatibleChoice) as refused:
        traced(OfThree(), [torch.zeros(3, 2)], batch=[0])
    assert "its code is for the number of samples with which it is traced" in str(refused.value)
    assert "TORCH_LOGS" not in str(refused.value)


@pytest.mark.slow
def test_the_field_of_flow_matching_is_exported(tmp_path: Path) -> None:
    sizes = ("task.train=40", "task.validation=20", "task.test=20", "trainer.max_steps=1", "logger=none")
    assert typed("task=density2d", "model=flow_matching", *sizes, "network.width=8", cwd=tmp_path).returncode == 0
    ended = typed(f"export={run_folder(tmp_path)}", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.rglob("exports/*/field.pt2"))


def test_a_package_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, asked in (("onnx", "onnx"), ("safetensors.torch", "safetensors")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        ended = typed(f"export={folder}", f"format={asked}", cwd=folder)
        assert f"format={asked} needs {asked}. Install it: pip install 'ode-run[export]'." in ended.stderr


def test_its_options_are_its_own(tmp_path: Path) -> None:
    assert "format=onnx is for export=RUN_FOLDER. Leave it out." in typed("format=onnx", cwd=tmp_path).stderr


@pytest.mark.slow
def test_of_several_fields_in_turn_each_answers_at_its_times_and_none_is_exported(tmp_path: Path) -> None:
    words = ("model=stacked", "trainer.max_steps=1", "logger=none", "pictures=false")
    run = ode.train(*TINY, *words, f"output_dir={tmp_path}")
    fields, y = run.model.fields, torch.tensor(INPUTS)
    for t, number in ((-1.0, 0), (0.1, 0), (0.25, 1), (0.6, 2), (0.9, 3), (2.0, 3)):
        torch.testing.assert_close(run.field(t, y), fields[number](torch.tensor(t), y))  # type: ignore[index,operator]
    with pytest.raises(RefusedInput, match="solves several fields in turn. Ask at one time."):
        run.field(torch.tensor([0.1, 0.9, 0.1]), y)
    with pytest.raises(RefusedInput, match="solves 4 equations in turn, .* Use format=safetensors, which"):
        run.export(tmp_path / "field")


def test_fields_without_parameters_are_one_where_their_values_are() -> None:
    class Decay(VectorField):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.rate = rate

        def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return -self.rate * y

    def posed(rate: float, begin: float) -> Problem:
        field = CountedField(Decay(rate), Ledger())
        return Problem(field=field, y0=torch.zeros(3, 2), ts=torch.tensor([begin, begin + 1]))

    problems = [posed(1.0, 0.0), posed(2.0, 1.0), posed(1.0, 2.0)]
    assert [len(group) for group in in_turn(problems)] == [2, 1]
