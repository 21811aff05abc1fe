"""The kernel of a GPU that solves an ensemble, each sample in a thread, whose code the CPU runs here, one by one."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ode_runner as ode
from ode_runner import integrator
from ode_runner.api import solving
from ode_runner.compiling import cuda_kernel, each_kernel
from ode_runner.compiling.c_code.machine_code import _library
from ode_runner.compiling.c_code.source import HEADER
from ode_runner.compiling.each_kernel import BACKWARD, FORWARD, compile_each_kernel, kernel_source
from ode_runner.compiling.each_steps import EachSteps
from ode_runner.compiling.stepper import values_of
from ode_runner.errors import CannotCompile, RefusedInput, SolverFailed
from ode_runner.field import VectorField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integral import NONE, Integral
from ode_runner.models.density import exact_trace
from ode_runner.networks.dense import MLPField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.explicit.fehlberg2 import Fehlberg2
from tests.compiling.test_c_code import compiler
from tests.compiling.test_compiled_each import (
    DOPRI5,
    OPTIONS,
    Moved,
    Toll,
    by_each_pair,
    check_nothing_is_left_to_python,
    check_same,
    compiled,
    counted,
    found,
    samples,
    steep,
)
from tests.problems import SmallNet

THREADS = """\
#undef ARRAY
#undef LOOPS
#define ARRAY
#define KERNEL void
#define __forceinline__
#define __noinline__
struct { long long x; } blockIdx, blockDim = {1}, threadIdx;
"""


class OneByOne:
    """A kernel whose threads are calls, one after another."""

    def __init__(self, made: ctypes.PyDLL, name: str) -> None:
        self.run, self.thread = made[name], ctypes.c_longlong.in_dll(made, "blockIdx")

    def entered(self, threads: int) -> None: ...

    def __call__(self, threads: int, *arguments: Tensor | int) -> None:
        self.entered(threads)
        values = [ctypes.c_void_p(x.data_ptr()) if isinstance(x, Tensor) else ctypes.c_longlong(x) for x in arguments]
        for number in range(threads + 3):  # those of the last block, too
            self.thread.value = number if threads > 1 else 0
            self.run(*values)


class Varied(VectorField):
    """Operations of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.LayerNorm(3)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        h = F.gelu(self.norm(y)) + F.elu(self.layer(y)) + y.softmax(1) * t.view(-1, *[1] * (y.dim() - 1))
        h = h + F.mish(y).cumsum(1) + y.roll(1, 1) + y.flip(1) + F.pad(y[:, 1:], (1, 0)) + torch.atan2(y, h * h + 1)
        h = h + y.amax(1, keepdim=True) + y.std(1, keepdim=True) + 0 * (y % 0.7 + y.round()) + y.isfinite() * y.sin()
        h = h + F.conv1d(y[:, None], self.layer.weight[:1, None], padding=1)[:, 0] + y.gather(1, y.argmin(1)[:, None])
        return torch.tanh(h / 10)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_kernels(source: str, names: Sequence[str], device: torch.device) -> Mapping[str, OneByOne]:
        made = ctypes.PyDLL(str(_library(source)))
        return {name: OneByOne(made, name) for name in names}

    monkeypatch.setattr(cuda_kernel, "HEADER", HEADER + THREADS)
    monkeypatch.setattr(cuda_kernel, "compile_kernels", compile_kernels)


def kernels(
    solver: EmbeddedRungeKutta,
    field: VectorField,
    integrals: Mapping[str, Integral] = NONE,
    conditions: Sequence[Tensor] = (),
) -> Callable[[Problem], Solution]:
    problem = Problem(field=counted(field, integrals, conditions, attached=True), y0=samples(), ts=torch.zeros(1))
    return compile_each_kernel(solver, problem, eager=partial(Backprop().solve, solver), back=True)


@compiler
@pytest.mark.usefixtures("float64")
@by_each_pair
def test_each_sample_takes_the_steps_it_would_take_uncompiled(
    on_cpu: None, solver: EmbeddedRungeKutta, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_nothing_is_left_to_python(solver, monkeypatch, kernels)


@compiler
@pytest.mark.usefixtures("float64")
def test_conditions_and_integrals_that_learn(on_cpu: None) -> None:
    torch.manual_seed(0)
    conditions = [torch.linspace(-2, 2, 14).view(7, 2).requires_grad_(), torch.linspace(0.5, 2, 42).view(7, 2, 3)]
    integrals = {"trace": Integral(exact_trace, True), "price": Integral(Toll(), True)}
    check_same(DOPRI5, Moved(), conditions=conditions, make=kernels)
    check_same(DOPRI5, MLPField([3, 8, 3], time=True), integrals, make=kernels)


@compiler
@pytest.mark.usefixtures("float64")
@pytest.mark.sampled(1)
@pytest.mark.parametrize("make", [kernels, compiled], ids=["kernel", "CPU"])
def test_operations_of_all_kinds(on_cpu: None, make: Any) -> None:
    torch.manual_seed(0)
    check_same(DOPRI5, Varied(), make=make)


@compiler
@pytest.mark.usefixtures("float64")
def test_derivatives_by_parameters_are_summed_up_share_by_share(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each_kernel, "MOST_SUMS", 100)
    check_same(DOPRI5, steep(), make=kernels)


@compiler
@pytest.mark.usefixtures("float64")
def test_a_sample_that_fails_is_named_as_it_would_be_uncompiled(on_cpu: None) -> None:
    solver = replace(DOPRI5, max_steps=4)
    with pytest.raises(
        SolverFailed, match="sample . of 7: solver=dopri5 stopped .* the limit solver.max_steps=4 was reached"
    ):
        found(kernels(solver, steep()), counted(steep(), NONE, attached=True), (0.0, 1.0))


@compiler
def test_a_kernel_that_gives_something_else_is_refused(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernel_source
    monkeypatch.setattr(each_kernel, "kernel_source", lambda *one: made(*one).replace("tanh(", "sin("))
    with pytest.raises(CannotCompile, match="what was compiled is off by"):
        kernels(DOPRI5, SmallNet())


class Decays(nn.Module):
    """Each at a rate that is given, times one that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(2.0))

    def forward(self, t: Tensor, y: Tensor, rates: Tensor) -> Tensor:
        return -self.rate * rates * y


@compiler
@pytest.mark.usefixtures("float64")
def test_a_compiled_ensemble_is_kernels_forward_and_back(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (integrator, solving):
        monkeypatch.setattr(module, "each_on_gpu", lambda *_: True)
    calls: list[int] = []
    monkeypatch.setattr(OneByOne, "entered", lambda _, threads: calls.append(threads))
    field, y0, ts, rates = Decays(), samples(), torch.tensor([0.0, 0.3, 1.0]), torch.linspace(0.1, 5, 7)[:, None]
    solve = ode.compile(field, y0, ts, given=[rates], solver="tsit5", per_sample=True)
    calls.clear()
    with torch.no_grad():
        alone = solve(y0, ts, given=[rates]).ys
    assert calls == [7]
    ours = solve(y0, ts, given=[rates]).ys
    [slope] = torch.autograd.grad(ours.sum(), solve.field.parameters())
    assert calls == [7] * 4, "forward; the same once more, with its steps noted; and back"
    torch.testing.assert_close(alone, ours.detach(), rtol=0, atol=0)
    theirs = ode.integrate(field, y0, ts, given=[rates], solver="tsit5", per_sample=True).ys
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(slope, torch.autograd.grad(theirs.sum(), field.parameters())[0])


@compiler
def test_a_field_that_learns_too_much_is_a_kernel_where_nobody_differentiates(
    on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (integrator, solving):
        monkeypatch.setattr(module, "each_on_gpu", lambda *_: True)
    monkeypatch.setattr(each_kernel, "MOST_LEARNED", 4)
    y0, ts = samples(), torch.tensor([0.0, 0.3])
    with pytest.raises(RefusedInput, match="by up to 4 learned numbers, and here are 45"):
        ode.compile(SmallNet(), y0, ts, per_sample=True)
    field, by = SmallNet().requires_grad_(False), {"rtol": 1e-6, "atol": 1e-6}
    found = ode.compile(field, y0, ts, per_sample=True, **by)(y0, ts).ys
    torch.testing.assert_close(found, ode.integrate(field, y0, ts, per_sample=True, **by).ys, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("field", [SmallNet, pytest.param(Varied, marks=pytest.mark.slow)])
def test_the_compiler_of_nvidia_understands_the_code(field: type[VectorField]) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    posed = Problem(field=counted(field(), NONE, attached=True), y0=samples(), ts=torch.zeros(1))
    steps = EachSteps(DOPRI5, posed.field, posed.y0, values_of(posed), lanes=1)
    made = {
        "solve_each": kernel_source(steps, DOPRI5, FORWARD, "control.c", "each_kernel.cu"),
        "pull_back_each": kernel_source(steps, DOPRI5, BACKWARD, "each_kernel_accepted.cu"),
    }
    for name, source in made.items():
        assert name.encode() in cuda_kernel.machine_code(source, "sm_90")
    with pytest.raises(CannotCompile, match="NVRTC does not understand"):
        cuda_kernel.machine_code(source + "nonsense", "sm_90")


def test_pairs_without_a_kernel_are_refused(on_cpu: None) -> None:
    with pytest.raises(CannotCompile, match="need a first-same-as-last pair"):
        kernels(Fehlberg2(**OPTIONS), SmallNet())
