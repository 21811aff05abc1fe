"""The kernel of a GPU that solves an ensemble, each sample in a thread, whose code the CPU runs here, one by one."""

import ctypes
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner import integrator
from ode_runner.api import solving
from ode_runner.compiling import cuda_kernel, each_kernel
from ode_runner.compiling.c_source import HEADER
from ode_runner.compiling.each_kernel import compile_each_kernel, kernel_source
from ode_runner.compiling.each_steps import EachSteps
from ode_runner.compiling.machine_code import _library
from ode_runner.compiling.stepper import values_of
from ode_runner.counted_field import CountedField
from ode_runner.errors import CannotCompile, SolverFailed
from ode_runner.field import VectorField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integral import NONE, Integral
from ode_runner.ledger import Ledger
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.bosh3 import Bosh3
from ode_runner.solvers.dopri5 import Dopri5
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.fehlberg2 import Fehlberg2
from ode_runner.solvers.tsit5 import Tsit5
from tests.problems import SmallNet
from tests.test_c_code import compiler
from tests.test_compiled_each import SPANS, samples
from tests.test_integrals import kinetic

THREADS = """\
#undef ARRAY
#undef LOOPS
#define ARRAY
#define KERNEL void
#define __forceinline__
#define __noinline__
struct { long long x; } blockIdx, blockDim = {1}, threadIdx;
"""
OPTIONS = {"rtol": 1e-5, "atol": 1e-5, "max_steps": 1000, "per_sample": True}


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


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_kernels(source: str, names: Sequence[str], device: torch.device) -> Mapping[str, OneByOne]:
        made = ctypes.PyDLL(str(_library(source)))
        return {name: OneByOne(made, name) for name in names}

    monkeypatch.setattr(cuda_kernel, "HEADER", HEADER + THREADS)
    monkeypatch.setattr(cuda_kernel, "compile_kernels", compile_kernels)


class Lorenz(VectorField):
    def __init__(self) -> None:
        super().__init__()
        self.sigma = nn.Parameter(torch.tensor(10.0, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        y1, y2, y3 = y.unbind(-1)
        return torch.stack([self.sigma * (y2 - y1), y1 * (rho[..., 0] - y3) - y2, y1 * y2 - 8 / 3 * y3], dim=-1)


def problem(
    field: VectorField,
    y0: Tensor,
    ts: Sequence[float],
    given: Sequence[Tensor] = (),
    integrals: Mapping[str, Integral] = NONE,
) -> Problem:
    counted = CountedField.around(field, Ledger(), attached=True, given=given, integrals=integrals)
    return Problem(field=counted, y0=y0, ts=torch.tensor(ts, dtype=torch.float64))


def refused(_: Problem) -> Solution:
    raise AssertionError("solved otherwise")


def check_same(solver: EmbeddedRungeKutta, posed: Problem, rtol: float) -> None:
    """As by the solver itself: states, integrals, and what is counted."""
    with torch.no_grad():
        solve = compile_each_kernel(solver, posed, eager=refused)
        begun = posed.field.ledger.tally.evaluations
        found = solve(posed)
        taken = posed.field.ledger.tally.evaluations - begun
        expected = Backprop().solve(solver, posed)
        assert taken == posed.field.ledger.tally.evaluations - begun - taken
    torch.testing.assert_close(found.ys, expected.ys, rtol=rtol, atol=rtol)
    assert (found.accepted, found.rejected) == (expected.accepted, expected.rejected)
    for name, one in expected.integrals.items():
        torch.testing.assert_close(found.integrals[name], one, rtol=rtol, atol=rtol)
    assert found.each is not None
    assert expected.each is not None
    for name in ("evaluations", "accepted", "rejected"):
        assert getattr(found.each, name).tolist() == getattr(expected.each, name).tolist()


@compiler
@pytest.mark.parametrize("span", [span for span in SPANS if len(set(span)) > 1])
@pytest.mark.parametrize(
    "solver", [Dopri5(**OPTIONS), Tsit5(**OPTIONS, control="pi"), Bosh3(**OPTIONS, first_step=0.01, max_step=0.1)]
)
def test_a_kernel_takes_the_steps_of_every_sample(
    on_cpu: None, solver: EmbeddedRungeKutta, span: tuple[float, ...]
) -> None:
    field, y0 = Lorenz(), 1 + 0.1 * samples().double()
    check_same(
        solver,
        problem(field, y0, [0.2 * t for t in span], [torch.linspace(0, 20, 7, dtype=torch.float64)[:, None]]),
        1e-11,
    )


@compiler
def test_networks_integrals_and_single_precision(on_cpu: None) -> None:
    torch.manual_seed(0)
    check_same(
        Dopri5(**OPTIONS),
        problem(SmallNet(), samples(), (0.0, 0.3, 1.0), integrals={"q": Integral(kinetic, judged=True)}),
        1e-4,
    )


@compiler
def test_what_is_out_of_the_ordinary_is_solved_otherwise(on_cpu: None) -> None:
    def explodes(_: Problem) -> Solution:
        raise SolverFailed("as by the solver")

    posed = problem(
        Lorenz(), torch.ones(3, 3, dtype=torch.float64), (0.0, 1.0), [torch.ones(3, 1, dtype=torch.float64)]
    )
    short = Dopri5(**OPTIONS | {"max_steps": 2})
    solve = compile_each_kernel(short, posed, eager=explodes)
    with pytest.raises(SolverFailed, match="as by the solver"):
        solve(posed)


@compiler
def test_a_kernel_that_gives_something_else_is_refused(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernel_source
    monkeypatch.setattr(each_kernel, "kernel_source", lambda *one: made(*one).replace("tanh(", "sin("))
    with pytest.raises(CannotCompile, match="what was compiled is off by"):
        compile_each_kernel(Dopri5(**OPTIONS), problem(SmallNet(), samples(), (0.0, 1.0)), eager=refused)


@compiler
def test_a_compiled_ensemble_is_a_kernel_unless_it_is_differentiated(
    on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (integrator, solving):
        monkeypatch.setattr(module, "each_on_gpu", lambda *_: True)
    calls: list[int] = []
    monkeypatch.setattr(OneByOne, "entered", lambda _, threads: calls.append(threads))
    ts, rho = torch.tensor([0.0, 0.2]).double(), torch.linspace(0, 20, 7).double()[:, None]
    y0 = samples().double()
    solve = ode.compile(Lorenz(), y0, ts, given=[rho], solver="tsit5", per_sample=True)
    calls.clear()
    with torch.no_grad():
        found = solve(y0, ts, given=[rho]).ys
    assert calls == [7]
    eager = solve(y0, ts, given=[rho]).ys
    assert calls == [7], "the field learns sigma"
    assert eager.requires_grad
    torch.testing.assert_close(found, eager.detach())


def test_the_compiler_of_nvidia_understands_the_code() -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    posed = problem(SmallNet(), samples(), (0.0, 1.0))
    steps = EachSteps(Dopri5(**OPTIONS), posed.field, posed.y0, values_of(posed), lanes=1)
    source = kernel_source(steps, Dopri5(**OPTIONS))
    assert b"solve_each" in cuda_kernel.machine_code(source, "sm_90")
    with pytest.raises(CannotCompile, match="NVRTC does not understand"):
        cuda_kernel.machine_code(source + "nonsense", "sm_90")


def test_pairs_and_operations_without_a_kernel_are_refused(on_cpu: None) -> None:
    with pytest.raises(CannotCompile, match="ends on its last slope"):
        compile_each_kernel(Fehlberg2(**OPTIONS), problem(SmallNet(), samples(), (0.0, 1.0)), eager=refused)
