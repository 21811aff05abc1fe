"""Functions of tensors in C against the same functions as PyTorch evaluates them."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vjp
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from ode_runner.compiling.c_code import machine_code, products
from ode_runner.compiling.c_code.graph import compile_library
from ode_runner.compiling.c_code.loop_fusion import with_fused_loops
from ode_runner.compiling.c_code.machine_code import function_of, library
from ode_runner.compiling.c_code.operations import WITH_CODE, NoCode
from ode_runner.compiling.c_code.recorder import _Recorder, record
from ode_runner.compiling.c_code.source import c_source
from ode_runner.errors import CannotCompile

aten = torch.ops.aten
compiler = pytest.mark.skipif(not any(map(shutil.which, machine_code.COMPILERS)), reason="needs a C compiler")

# Of x (4, 6), y (4, 6), whose last column is turned, and w (5, 6): each has a derivative, which is compared as well.
SMOOTH: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "arithmetic": lambda x, y, w: 2 * x - y / (1 + x * x) - (3 - y) * x + torch.rsub(x, 1.5, alpha=2),
    "by rows": lambda x, y, w: x + w[0] * y[:, :1] - w.mean(),
    "powers": lambda x, y, w: x**2 + y**3 + (x * x + 1) ** 0.5 + (x * x + 1) ** -1.3 + (1 + y * y).rsqrt(),
    "exponentials": lambda x, y, w: torch.exp(-x) + torch.log(y * y + 1) + torch.log1p(x * x) + torch.sigmoid(y),
    "periodic": lambda x, y, w: torch.sin(x) * torch.cos(y) + torch.tanh(x * y),
    "activations": lambda x, y, w: F.softplus(x) + F.relu(y) + x.abs() + F.softplus(y, beta=2.0, threshold=1.0),
    "branches": lambda x, y, w: torch.where(x > y, x, y * y) + torch.maximum(x, y) + x.clamp(-0.3, 0.4),
    "products": lambda x, y, w: F.linear(x, w, w[:, 0]) @ w - (w @ x.t() @ y)[:4] + (x.t() @ y)[:4] @ w.t() @ w,
    "batches of products": lambda x, y, w: (x.view(4, 2, 3) @ y.view(4, 3, 2)).reshape(4, 4),
    "sums": lambda x, y, w: (
        x.sum(0) + (x * y).sum(1, keepdim=True) + y.sum() + w.sum((0, 1)) + x.mean(1).square().sum().sqrt()
    ),
    "parts": lambda x, y, w: torch.cat([x[:, 1:4], y.t()[2:5].t(), torch.stack([x[:, 0], y[:, 1]], 1)], dim=1),
    "units": lambda x, y, w: x @ torch.eye(6, dtype=x.dtype) + (torch.eye(4, dtype=x.dtype) @ y).sin(),
    "activations of networks": lambda x, y, w: sum(activation(z) for activation in ACTIVATIONS for z in (x, y * 3)),
    "functions": lambda x, y, w: (
        x.tan().tanh()
        + y.sinh()
        + x.cosh()
        + (y * y).asinh()
        + x.atan()
        + torch.erf(x)
        + torch.erfc(y)
        + x.exp2()
        + y.expm1()
        + (x * x + 1).log2()
        + (1 + y * y).log10()
        + torch.hypot(x, y)
        + torch.atan2(x, y * y + 1)
        + (x * x).sigmoid().asin()
        + (y * y).sigmoid().acos()
        + (x * 0.1).tanh().atanh()
        + torch.sinc(x)
        + 2**y
        + (x * x + 1) ** y
        + torch.logaddexp(x, y)
        + torch.lerp(x, y, 0.3)
        + torch.addcdiv(x, y, x * x + 1)
    ),
    "rounded": lambda x, y, w: (
        x * ((2 * y).round() + x.floor() + y.ceil() + x.trunc() + y.frac() + x % 0.7 + y % -0.7 + torch.fmod(x, 0.7))
    ),
    "norms": lambda x, y, w: (
        x.softmax(1) * y
        + y.softmax(0)
        + x.log_softmax(1)
        + y.logsumexp(1, keepdim=True)
        + F.layer_norm(x, (6,))
        + F.layer_norm(y, (6,), w[0], w[1])
        + F.group_norm(x, 3, w[0], w[1])
        + F.normalize(y, dim=1) * x.norm()
        + x.std(dim=1, keepdim=True)
        + y.var(dim=0, correction=0)
        + torch.linalg.vector_norm(x, dim=0)
    ),
    "extremes": lambda x, y, w: (
        x.amax(1, keepdim=True) * y
        + y.amin(0)
        + x.max(dim=0).values
        + y.min(dim=1, keepdim=True).values * x
        + x.max()
        + y.min()
        + x.prod(dim=1, keepdim=True)
        + y.cumsum(0)
        + x.cumsum(1)
        + w.amax()
    ),
    "moved": lambda x, y, w: (
        x.roll(2, 1) * y
        + y.roll((1, -1), (0, 1))
        + x.flip(0, 1)
        + F.pad(x, (1, 2))[:, 3:].sum()
        + y.triu(1) * x.tril()
        + F.pad(y[:, None], (1, 1), mode="circular")[:, 0, 2:]
        + x.gather(1, x.argmax(1, keepdim=True))
        + x.roll(5)
    ),
    "convolutions": lambda x, y, w: (
        F.conv1d(x[:, None], w[:2, None, :3], w[0, :2], padding=1).sum(1)
        + F.conv1d(y.reshape(2, 4, 3), w[:4, :4].reshape(4, 2, 2), padding=1, groups=2).view(8, 4)[:4, :1]
        + F.conv2d(
            x.view(2, 1, 4, 3), w[:3, :4].reshape(3, 1, 2, 2), stride=(2, 1), dilation=(1, 2), padding=(0, 1)
        ).sum()
    ),
    "linear systems": lambda x, y, w: (
        torch.linalg.solve(9 * torch.eye(6, dtype=x.dtype) + x[:, :, None] * y[:, None], y)
        + torch.linalg.solve(torch.tensor([[0.0, 2.0], [1.0, -1.0]], dtype=x.dtype), x[:2] * y[0, 0]).sum()
        + torch.linalg.solve(9 * torch.eye(6, dtype=x.dtype) + x[:, :, None] * y[:, None], w[0])
        + torch.linalg.solve(9 * torch.eye(6, dtype=x.dtype) + x[:, :, None] * y[:, None], y.t() * w[0, 0]).sum(2)
        + torch.linalg.solve(x[:2, :2].t() @ y[:2, 2:4], w[:3, :2], left=False).sum()
        + (torch.linalg.inv(x.view(4, 2, 3) @ y.reshape(4, 3, 2)) @ y.reshape(4, 2, 3)).reshape(4, 6)
    ),
    "indices": lambda x, y, w: (
        x[:, [2, 0, -1, 2, 1, 1]] * y[torch.tensor([0, 0, 3, -1])] + assigned(x, y) + interpolated(x, y)
    ),
    "decomposed": lambda x, y, w: (
        F.bilinear(x, y, torch.stack([w[:4, :].t() @ w[:4], w[1:].t() @ w[:4]]))[:, :1]
        + torch._weight_norm(w, w[:, :1], 0)[:4]
        + torch._weight_norm(x, y[:1], 1)
        + torch.where(~(x > y) != False, x, y)  # noqa: E712
        + torch.func.vmap(torch.func.jacrev(lambda z: z.sin() * z.sum()))(x).sum(2)
        + F.embedding((4.5 * x[0, 0].sigmoid()).long(), w) * F.embedding((4.5 * y[:, 0].sigmoid()).long(), w)
    ),
    "vectors": lambda x, y, w: (
        x * (y[0] @ w.t() @ w) + (x @ w[0]).unsqueeze(1) * y + torch.linalg.multi_dot([y[1], w.t(), w])
    ),
    "constants": lambda x, y, w: (
        x * torch.tensor(2.5) + y * torch.tensor([True, False] * 3) - torch.tensor([[1e-3]] * 4)
    ),
    "nothing": lambda x, y, w: torch.zeros_like(x) + torch.full_like(y, 0.25),
}


def assigned(x: Tensor, y: Tensor) -> Tensor:
    found = torch.zeros_like(x)
    found[:, [1, -2]] = x[:, [3, 3]] * y[:, [0, 1]]
    return found


def interpolated(x: Tensor, y: Tensor) -> Tensor:
    """Between the rows of y, at places in them."""
    places = torch.tensor([-1.0, 0.0, 0.5, 1.0], dtype=x.dtype)
    entry = (torch.searchsorted(places, x[:, 0].tanh().detach()) - 1).clamp(0, 2)
    above = torch.bucketize(x[:, 1].tanh().detach(), places, right=True).clamp(0, 3)
    return torch.lerp(y[entry], y[above], x[:, :1].tanh())


ACTIVATIONS = [
    F.gelu, partial(F.gelu, approximate="tanh"), F.elu, F.celu, F.selu, F.leaky_relu, F.silu, F.mish, F.hardtanh,
    F.hardswish, F.logsigmoid, F.softshrink, F.hardshrink, F.relu6, F.softsign, F.tanhshrink,
]  # without hardsigmoid, whose derivative PyTorch computes with 1 / 6 in single precision  # fmt: skip


def inputs(dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=dtype) for shape in ((4, 6), (6, 4), (5, 6))]


def with_derivatives(x: Tensor, turned: Tensor, w: Tensor) -> list[Tensor]:
    """Values of all, and what comes back to the inputs."""
    found = []
    for function in SMOOTH.values():
        value, pull = vjp(lambda x, turned, w, function=function: function(x, turned.t(), w), x, turned, w)
        found += [value, *pull(torch.cos(value))]
    return [part.contiguous() for part in found]


def compiled(function: Callable[..., list[Tensor]], examples: list[Tensor]) -> Callable[..., list[Tensor]]:
    with torch.no_grad():
        recording = record(function, examples, whole=WITH_CODE)
        return function_of(library(c_source({"run": recording})), "run", recording)


@compiler
@pytest.mark.sampled(1)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_operations_and_their_derivatives_are_those_of_pytorch(dtype: torch.dtype) -> None:
    examples = inputs(dtype)
    run, others = compiled(with_derivatives, examples), [x - 0.3 for x in examples]
    for ours, theirs in zip(run(*others), with_derivatives(*others), strict=True):
        assert ours.dtype == dtype
        assert float((ours - theirs).norm()) < 1000 * torch.finfo(dtype).eps * max(float(theirs.norm()), 1.0)


@compiler
def test_a_number_that_is_made_a_tensor_by_vmap_is_that_number() -> None:
    run = compiled(lambda t: [torch.vmap(lambda t: 10 * t.exp() * 0.5)(t)], [torch.ones(3)])
    torch.testing.assert_close(run(torch.zeros(3)), [torch.full((3,), 5.0)])


def test_operations_that_differ_in_their_arrays_alone_are_one_function() -> None:
    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        return [(x.tanh() * y).tanh() * x, y[:2].tanh() * x[0, 0], x[0, 0] + y[0, 1]]

    with torch.no_grad():
        source = c_source({"f": record(function, [torch.rand(3, 4), torch.rand(3, 4)])})
    bodies = [line for line in source.splitlines() if line.startswith("LOOPS ")]
    assert len(bodies) == 4, "tanh and product, of all and of two rows; numbers are added where they stand"
    assert sum("tanh(" in line for line in bodies) == 2


def combined(y: Tensor, k: Tensor, s: Tensor) -> list[Tensor]:
    """A chain of five operations, the last of which reads what is needed again; one that is written into afterwards."""
    y1 = y + (0.3 * s) * k + (0.7 * s) * (k - y)
    halved = y1 / 2
    written = (y * k).add_(halved)
    return [torch.tanh(halved) * written, y1[:1]]


def test_operations_on_large_tensors_are_one_loop_where_nothing_else_reads_what_lies_between() -> None:
    examples = [torch.rand(64, 64), torch.rand(64, 64), torch.tensor(0.5)]
    with torch.no_grad():
        recording = record(combined, examples)
    results = [operation.target for operation in with_fused_loops(recording).operations if operation.result.dim() == 2]
    assert results == [aten.add.Tensor, aten.div.Tensor, aten.mul.Tensor, aten.add_.Tensor, aten.mul.Tensor]
    small = record(combined, [x[:2, :2] if x.dim() else x for x in examples])
    assert with_fused_loops(small).operations == small.operations


@compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_loop_finds_what_several_do(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [torch.rand(64, 64, dtype=dtype), torch.rand(64, 64, dtype=dtype), torch.tensor(0.5, dtype=dtype)]
    of_one = compiled(combined, examples)(*examples)
    monkeypatch.setattr("ode_runner.compiling.c_code.loop_fusion.SMALLEST", 10_000)
    for ours, theirs in zip(of_one, compiled(combined, examples)(*examples), strict=True):
        assert torch.equal(ours, theirs)


def test_machine_code_made_with_other_flags_is_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine_code, "_folder", lambda: tmp_path)
    monkeypatch.setattr(machine_code, "_compiler", lambda: ("cc",))
    monkeypatch.setattr(machine_code, "_compile", lambda source, compiler, library: library.touch())
    machine_code._library("")
    for flags in ("FLAGS", "OF_GCC", "ARITHMETIC", "VECTOR_MATH"):
        monkeypatch.setattr(machine_code, flags, (*getattr(machine_code, flags), "-g"))
        machine_code._library("")
    assert len(list(tmp_path.iterdir())) == 5


@compiler
def test_what_is_no_number_stays_so() -> None:
    def function(x: Tensor) -> list[Tensor]:
        found = [F.relu(x), x.clamp(-1, 1), torch.maximum(x, x * 0), torch.minimum(x * 0, x), x.abs(), torch.tanh(x)]
        found += [x.max(), x.amin(), x.sum(), x.prod(), x.cumsum(0), x.softmax(0), x.var(), x.square().mean().sqrt()]
        return [*found, x.nan_to_num(), (x.argmax() + 0.0 * x[0]), x.max(0).indices + 0.0 * x[0], x.isfinite() * 1.0]

    x = torch.tensor([0.5, float("nan"), 2.0, float("inf")])
    for ours, theirs in zip(compiled(function, [torch.ones(4)])(x), function(x), strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


@compiler
def test_the_derivative_of_entries_is_added_to_each_of_them() -> None:
    index = torch.tensor([2.0, 0.0, 2.0])

    def function(x: Tensor, dy: Tensor, index: Tensor) -> list[Tensor]:
        entries, places = index.to(torch.int64), vjp(lambda x: x.index_select(1, index.to(torch.int64)), x)[1]
        return [*places(dy), x.index_add(1, entries, dy)]

    examples = [torch.rand(4, 3, 2), torch.rand(4, 3, 2), index]
    run, others = (
        compiled(function, examples),
        [torch.rand(4, 3, 2), torch.rand(4, 3, 2), torch.tensor([1.0, 1.0, 0.0])],
    )
    torch.testing.assert_close(list(run(*others)), function(*others))


@compiler
def test_an_entry_that_is_out_of_range_is_no_number() -> None:
    run = compiled(lambda x, y: [x.index_select(0, y.to(torch.int64))], [torch.rand(3, 2), torch.ones(2)])
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    [found] = run(x, torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(found, torch.tensor([[5.0, 6.0], [float("nan")] * 2]), equal_nan=True)


def test_an_operation_without_c_code_is_told() -> None:
    examples = [torch.eye(3) + 0.1 * torch.rand(3, 3), torch.rand(3, 1)]
    with pytest.raises(NoCode, match="matrix_exp"):
        c_source({"f": record(lambda a, b: [torch.linalg.matrix_exp(a) @ b], examples, whole=WITH_CODE)})


def test_an_index_into_a_flattened_tensor_is_left_to_another() -> None:
    with pytest.raises(NoCode, match="argmax"):
        c_source({"f": record(lambda x: [x.argmax() + x], [torch.rand(2, 3)], whole=WITH_CODE)})


@compiler
def test_whole_numbers_are_summed_and_multiplied_as_such() -> None:
    def function(x: Tensor) -> list[Tensor]:
        above = x > 0.5
        return [above.sum(1) * x[:, 0], above.cumsum(0) * x, (above * 2).prod(1) * x[:, 0], (above & (x < 0.9)) * x]

    x = torch.rand(4, 6)
    for ours, theirs in zip(compiled(function, [torch.rand(4, 6)])(x), function(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_large_convolution_is_left_to_another() -> None:
    examples = [torch.rand(16, 8, 32), torch.rand(8, 8, 9)]
    with pytest.raises(NoCode, match="convolution"):
        c_source({"f": record(lambda x, w: [F.conv1d(x, w)], examples, whole=WITH_CODE)})


@compiler
@pytest.mark.skipif(products._address(torch.float32) is None, reason="this build of PyTorch shows no BLAS")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_large_products_are_those_of_the_library_however_the_matrices_lie(dtype: torch.dtype) -> None:
    def function(x: Tensor, w: Tensor) -> list[Tensor]:
        wide, turned = torch.cat([w, w], 1), x.t().contiguous().t()
        products = [x @ w, turned @ w, x @ w.t().contiguous().t(), turned @ wide[:, 50:], (w.t() @ x.t()) * 2]
        thirds = x[:69].view(23, 3, 80).transpose(0, 1)  # (3, 23, 80)
        batches = [torch.stack([x, 2 * x]) @ torch.stack([w, -w]), thirds @ thirds.mT, thirds @ w.expand(3, 80, 60)]
        products += [w @ wide.t()[:60], (w.t() @ turned.t()).t().contiguous(), F.linear(x, w.t(), x[0, :60])]
        return [*products, *batches]

    torch.manual_seed(0)
    run = compiled(function, [torch.randn(70, 80, dtype=dtype), torch.randn(80, 60, dtype=dtype)])
    others = [torch.randn(70, 80, dtype=dtype), torch.randn(80, 60, dtype=dtype)]
    for ours, theirs in zip(run(*others), function(*others), strict=True):
        assert float((ours - theirs).norm()) < 100 * torch.finfo(dtype).eps * float(theirs.norm())


def test_large_products_without_a_library_are_left_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_address", lambda dtype: None)
    with pytest.raises(NoCode, match="large"):
        c_source({"f": record(lambda x: [x @ x], [torch.rand(60, 60)])})


def test_an_unknown_tensor_is_refused_at_once_and_nothing_is_recorded_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A view of it was decomposed into views of it until Python's stack was full, and torch was then left recording."""
    decomposed, decompose = list[object](), _Recorder._decomposed
    monkeypatch.setattr(_Recorder, "_decomposed", lambda *args: decomposed.append(args[1]) or decompose(*args))
    other = torch.ones(3)
    for function in (
        lambda x: x * other.detach(),
        lambda x: x + other.view(1, 3),
        lambda x: x.where(other.data > 0, x),
    ):
        for one in (lambda x: [function(x)], lambda x: vjp(function, x)[1](x)):  # noqa: B023
            with pytest.raises(CannotCompile, match="none of its parameters"):
                record(one, [torch.ones(3, 3)], whole=WITH_CODE)
            assert len(decomposed) < 10
            assert not _len_torch_dispatch_stack()


def test_a_large_constant_or_system_is_left_to_another() -> None:
    for function, reason in (
        (lambda x: x + torch.tensor([1.0] * 5000)[0], "a large constant"),
        (lambda x: torch.linalg.solve(x, x), "linalg_solve"),
    ):
        with pytest.raises(NoCode, match=reason):
            c_source({"f": record(lambda x: [function(x)], [torch.eye(33)], whole=WITH_CODE)})  # noqa: B023


def test_what_is_given_may_not_be_written_into() -> None:
    with pytest.raises(CannotCompile, match="writes into what it is given"):
        record(lambda x: [x.add_(1)], [torch.rand(3)])


def test_without_a_compiler_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "COMPILERS", ())
    monkeypatch.delenv("CC", raising=False)
    machine_code._compiler.cache_clear()
    try:
        with pytest.raises(CannotCompile, match="no C compiler"):
            compiled(lambda x: [x + 1], [torch.rand(2)])
    finally:
        machine_code._compiler.cache_clear()


@compiler
def test_what_the_systems_compiler_refuses_is_left_to_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine_code, "FLAGS", (*machine_code.FLAGS, "-std=no_such_standard"))
    monkeypatch.setattr(machine_code, "_folder", lambda: tmp_path)
    assert compile_library({"run": (lambda x: [x + 1], [torch.ones(2)])}, "") is None
