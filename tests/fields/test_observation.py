"""What a field may do inside, and what no mode but backprop can follow: tensors with a history, random numbers."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.meters import SavedBytes
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Phase
from ode_runner.fields.structured_field import SeparableField
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.forward import Forward
from ode_runner.gradients.interpolated import Interpolated
from ode_runner.gradients.reversible import Reversible
from ode_runner.gradients.seminorm import Seminorm
from ode_runner.gradients.symplectic import Symplectic
from ode_runner.integrator import Integrator
from ode_runner.models.copies import copied
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.reversible_heun import ReversibleHeun
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.implicit.implicit_midpoint import ImplicitMidpoint
from ode_runner.solvers.implicit.kvaerno3 import Kvaerno3
from ode_runner.solvers.libraries.scipy_ivp import SciPy
from ode_runner.solvers.splitting.leapfrog import Leapfrog
from tests.helpers import own_models, record_of, typed

TS = torch.tensor([0.0, 0.3, 0.6, 1.2])
DOPRI5, RK = Dopri5(rtol=1e-6, atol=1e-6, max_steps=1000), RK4(num_steps=4, step_size=None)
ADJOINT = Adjoint(rtol=None, atol=None)
MODES: dict[str, tuple[Solver, GradientMode]] = {
    "checkpoint": (DOPRI5, Checkpoint()),
    "checkpoint, per sample": (replace(DOPRI5, per_sample=True), Checkpoint()),
    "checkpoint, implicit": (ImplicitMidpoint(num_steps=2, step_size=None), Checkpoint()),
    "symplectic": (DOPRI5, Symplectic()),
    "forward": (DOPRI5, Forward(max_directions=64)),
    "reversible": (ReversibleHeun(num_steps=8, step_size=None), Reversible()),
    "adjoint": (DOPRI5, ADJOINT),
    "adjoint, scipy": (SciPy(method="LSODA", rtol=1e-4, atol=1e-4, max_steps=1000), ADJOINT),
    "seminorm": (DOPRI5, Seminorm(rtol=None, atol=None)),
    "interpolated": (DOPRI5, Interpolated(rtol=None, atol=None)),
}
each_mode = pytest.mark.parametrize(("solver", "mode"), MODES.values(), ids=MODES)
STEPWISE = {name: MODES[name] for name in ("checkpoint", "adjoint")}
each_way = pytest.mark.parametrize(("solver", "mode"), STEPWISE.values(), ids=STEPWISE)


class Made(VectorField):
    """A field by a function of itself, t and y."""

    def __init__(self, function: Callable[..., Tensor], **parts: object) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 5), nn.Linear(5, 3)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def net(self, y: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(y)))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.function(self, t, y)


def _trace(field: Made, place: Tensor) -> Tensor:
    """-dy/dy_0 as a CNF takes it, added to the state's last element."""
    dy = field.net(place)
    (row,) = torch.autograd.grad(dy[:, 0].sum(), place, create_graph=torch.is_grad_enabled())
    return torch.cat([dy[:, :2], -row[:, :1]], dim=1)


def own_leaf(field: Made, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        return _trace(field, y.detach().requires_grad_() if not y.requires_grad else y)


def leaf_in_place(field: Made, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        y = y if y.requires_grad else y.requires_grad_()
        return _trace(field, y)


def foreign_leaf(field: Made, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        step = torch.zeros(3, requires_grad=True)
        (slope,) = torch.autograd.grad(field.net(y + step).square().sum(), step, create_graph=True)
        return field.net(y) + slope


def potential(field: Made, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        place = y if y.requires_grad else y.detach().requires_grad_()
        return -torch.autograd.grad(field.net(place).square().sum(), place, create_graph=True)[0]


def by_func(field: Made, t: Tensor, y: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.grad(lambda one: field.net(one).square().sum()))(y)


def cached_leaf(field: Made, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        field.place.data = y.detach().clone()
        return torch.autograd.grad(field.net(field.place).square().sum(), field.place)[0]


def hypernet(field: Made, t: Tensor, y: Tensor) -> Tensor:
    weight = field.hyper(t.reshape(1)).view(3, 3)
    return torch.tanh(y @ weight) + field.net(y)


GOOD: dict[str, Callable[[], Made]] = {
    "plain": lambda: Made(lambda f, t, y: f.net(y) * t),
    "time alone": lambda: Made(lambda f, t, y: t.expand_as(y)),
    "CNF, a detached leaf": lambda: Made(own_leaf),
    "CNF, a leaf in place": lambda: Made(leaf_in_place),
    "CNF, a leaf of its own": lambda: Made(foreign_leaf),
    "a learned potential": lambda: Made(potential),
    "torch.func": lambda: Made(by_func),
    "weight norm": lambda: Made(
        lambda f, t, y: f.normed(y) + f.net(y), normed=parametrizations.weight_norm(nn.Linear(3, 3))
    ),
    "spectral norm": lambda: Made(
        lambda f, t, y: f.normed(y) + f.net(y), normed=parametrizations.spectral_norm(nn.Linear(3, 3)).eval()
    ),
    "spectral norm, old": lambda: Made(
        lambda f, t, y: f.normed(y) + f.net(y), normed=nn.utils.spectral_norm(nn.Linear(3, 3)).eval()
    ),
    "a cached leaf of its own": lambda: Made(cached_leaf, place=torch.zeros(4, 3, requires_grad=True)),
    "checkpointed": lambda: Made(lambda f, t, y: checkpoint(f.net, y, use_reentrant=False)),
    "a hypernet": lambda: Made(hypernet, hyper=nn.Linear(1, 9)),
    "a frozen tensor": lambda: Made(lambda f, t, y: f.net(y) * f.scale, scale=torch.ones(3)),
    "a shared parameter": lambda: Made(lambda f, t, y: f.net(y) * f.shared, shared=nn.Parameter(torch.ones(3))),
    "frozen parameters": lambda: Made(lambda f, t, y: f.net(y)).requires_grad_(False),
}
UNMEASURED = {"torch.func", "spectral norm, old"}  # torch forbids it; the module keeps the last weight it made


def encoded() -> Tensor:
    """What an encoder made of its input, (4, 3): no leaf."""
    return torch.tanh(nn.Linear(2, 3)(torch.ones(4, 2)))


def on_time(field: Made, t: Tensor, y: Tensor, low: float, high: float) -> Tensor:
    return field.net(y) * (field.context if low < float(t) < high else 1.0)


def cnf_reading(field: Made, t: Tensor, y: Tensor) -> Tensor:
    return own_leaf(field, t, y) * field.context


BAD: dict[str, tuple[Callable[[], Made], str]] = {
    "an encoder's output": (lambda: Made(lambda f, t, y: f.net(y) * f.context, context=encoded()), "TanhBackward"),
    "as y itself": (lambda: Made(lambda f, t, y: f.context, context=encoded()), "TanhBackward"),
    "by torch.func": (
        lambda: Made(lambda f, t, y: torch.func.vmap(lambda a, c: f.net(a) * c)(y, f.context), context=encoded()),
        "computed before the solve",
    ),
    "in a CNF": (lambda: Made(cnf_reading, context=encoded()), "TanhBackward"),
    "checkpointed": (
        lambda: Made(
            lambda f, t, y: checkpoint(lambda a: f.net(a) * f.context, y, use_reentrant=False), context=encoded()
        ),
        "computed before the solve",
    ),
    "late": (lambda: Made(lambda f, t, y: on_time(f, t, y, 0.5, 9), context=encoded()), "TanhBackward"),
    "for a while": (lambda: Made(lambda f, t, y: on_time(f, t, y, 0.4, 0.6), context=encoded()), "TanhBackward"),
    "a raw leaf": (
        lambda: Made(lambda f, t, y: f.net(y) * f.context, context=torch.ones(3, requires_grad=True)),
        r"asks for a gradient, of shape \(3,\)",
    ),
    "a list of layers": (
        lambda: Made(lambda f, t, y: f.layers[0](y) + f.net(y), layers=[nn.Linear(3, 3)]),
        r"asks for a gradient, of shape \(3, 3\)|\(3,\)",
    ),
    "a cached weight": (
        lambda: Made(lambda f, t, y: y @ f.weight, weight=2 * nn.Parameter(torch.eye(3))),
        "MulBackward",
    ),
    "a view of another's parameter": (
        lambda: Made(lambda f, t, y: f.net(y) * f.view, view=nn.Parameter(torch.ones(5))[:3]),
        "SliceBackward",
    ),
}


def beginning() -> Tensor:
    return torch.linspace(-1, 1, 12).view(4, 3)


@pytest.mark.sampled(8)
@each_way
@pytest.mark.parametrize("name", GOOD)
def test_what_a_field_does_inside_is_its_own_affair(name: str, solver: Solver, mode: GradientMode) -> None:
    """Observed in the first solve and not in the second: the same to the bit, for as many evaluations."""
    torch.manual_seed(0)
    field, integrate, found = GOOD[name](), Integrator(solver=solver, gradient=mode), []
    drawn = torch.get_rng_state()
    for _ in range(2):
        y0 = beginning().requires_grad_()
        memory = SavedBytes(field.parameters())
        with integrate.ledger.phase(Phase.FORWARD) as tally, nullcontext() if name in UNMEASURED else memory:
            ys = integrate(field, y0, TS).ys
        kept = memory.bytes()
        field.zero_grad()
        if ys.requires_grad:
            ys.sum().backward()
        slopes = [p.grad for p in (*field.parameters(), y0) if p.grad is not None]
        found.append((ys.detach(), tally.evaluations, kept, slopes))
    assert torch.equal(drawn, torch.get_rng_state())
    (one, evaluations, kept, slopes), (other, again, kept_again, slopes_again) = found
    assert torch.equal(one, other)
    assert (evaluations, kept) == (again, kept_again)
    assert all(torch.equal(a, b) for a, b in zip(slopes, slopes_again, strict=True))


@each_mode
def test_every_mode_lets_a_plain_field_be(solver: Solver, mode: GradientMode) -> None:
    field, integrate = GOOD["plain"](), Integrator(solver=solver, gradient=mode)
    ys = [integrate(field, beginning().requires_grad_(), TS).ys.detach() for _ in range(2)]
    assert torch.equal(*ys)


@each_way
@pytest.mark.parametrize("name", BAD)
def test_a_tensor_with_a_history_is_refused_by_name(name: str, solver: Solver, mode: GradientMode) -> None:
    torch.manual_seed(0)
    make, said = BAD[name]
    word = type(mode).__name__.lower()
    with pytest.raises(IncompatibleChoice, match=f"^Made reads a tensor .*({said}).*gradient={word} would .*backprop"):
        Integrator(solver=solver, gradient=mode)(make(), beginning(), TS)


@each_mode
def test_every_mode_refuses_an_encoders_output(solver: Solver, mode: GradientMode) -> None:
    with pytest.raises(IncompatibleChoice, match=r"computed before the solve \(by TanhBackward0\)"):
        Integrator(solver=solver, gradient=mode)(BAD["an encoder's output"][0](), beginning(), TS)


@pytest.mark.parametrize("name", BAD)
def test_backprop_gives_it_its_gradient(name: str) -> None:
    torch.manual_seed(0)
    field = BAD[name][0]()
    ys = Integrator(solver=DOPRI5, gradient=Backprop())(field, beginning(), TS).ys
    ys.sum().backward()


@pytest.mark.parametrize("grad", [False, True], ids=["no gradient wanted", "frozen"])
def test_where_nothing_can_be_lost_nothing_is_refused(grad: bool) -> None:
    field = BAD["an encoder's output"][0]()
    field.context = field.context.detach() if grad else field.context
    with nullcontext() if grad else torch.no_grad():
        Integrator(solver=DOPRI5, gradient=Checkpoint())(field, beginning(), TS)


@pytest.mark.parametrize("when", ["in the tenth solve", "after eval()"])
def test_a_field_is_looked_at_again(when: str) -> None:
    field, integrate = BAD["an encoder's output"][0](), Integrator(solver=RK, gradient=Checkpoint())
    context, field.context = field.context, torch.ones(4, 3)
    for _ in range(8):
        integrate(field, beginning(), TS)
    field.context = context
    if when == "after eval()":
        field.eval()
    else:
        integrate(field, beginning(), TS)
    with pytest.raises(IncompatibleChoice, match="computed before"):
        integrate(field, beginning(), TS)


def test_a_solve_that_failed_is_as_if_it_had_never_been() -> None:
    """As one that torch forbade while saved bytes were measured, and that is made again."""
    field, integrate = BAD["an encoder's output"][0](), Integrator(solver=RK, gradient=Checkpoint())
    function, field.function = field.function, lambda f, t, y: y @ y
    with pytest.raises(RuntimeError, match="shapes"):
        integrate(field, beginning(), TS)
    field.function = function
    with pytest.raises(IncompatibleChoice, match="computed before"):
        integrate(field, beginning(), TS)


class Noisy(SeparableField):
    """Dropout in either half."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.dropout = nn.Linear(2, 2), nn.Linear(2, 2), nn.Dropout(0.4)

    def drift(self, t: Tensor, p: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.one(p)))

    def kick(self, t: Tensor, q: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.other(q)))


RIGHT = {
    "checkpoint, rk4": (RK, Checkpoint()),
    "symplectic, rk4": (RK, Symplectic()),
    "checkpoint, leapfrog": (Leapfrog(num_steps=4, step_size=None), Checkpoint()),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("solver", "mode"), RIGHT.values(), ids=RIGHT)
@pytest.mark.parametrize("ts", [TS, torch.tensor([0.0, 0.1, 0.35, 0.4, 1.0]), TS.flip(0)], ids=["", "within", "back"])
def test_random_numbers_are_drawn_once_more(solver: Solver, mode: GradientMode, ts: Tensor) -> None:
    torch.manual_seed(0)
    field, found = Noisy(), []
    for gradient in (Backprop(), mode):
        integrate = Integrator(solver=solver, gradient=gradient)
        for _ in range(2):  # observed, and known to be random
            torch.manual_seed(3)
            y0 = torch.linspace(-1, 1, 20).view(5, 4).requires_grad_()
            ys = integrate(field, y0, ts.double()).ys
            drawn = torch.get_rng_state()
            grads = torch.autograd.grad(ys.square().sum(), [y0, *field.parameters()])
            assert torch.equal(drawn, torch.get_rng_state())
            found.append([ys, *grads])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other)


WRONG = {
    "checkpoint, dopri5": (DOPRI5, Checkpoint()),
    "symplectic, dopri5": (DOPRI5, Symplectic()),
    "checkpoint, implicit": (Kvaerno3(rtol=1e-2, atol=1e-2, max_steps=100), Checkpoint()),
    **{name: way for name, way in MODES.items() if not name.startswith(("checkpoint", "symplectic"))},
}


@pytest.mark.parametrize(("solver", "mode"), WRONG.values(), ids=WRONG)
def test_random_numbers_that_cannot_be_drawn_again_are_refused(solver: Solver, mode: GradientMode) -> None:
    with pytest.raises(IncompatibleChoice, match="Noisy draws random numbers.*gradient=backprop, or gradient=checkp"):
        Integrator(solver=solver, gradient=mode)(Noisy(), torch.ones(3, 4), TS)


def test_a_field_in_evaluation_draws_none() -> None:
    Integrator(solver=DOPRI5, gradient=ADJOINT)(Noisy().eval(), torch.ones(3, 4), TS)


def test_a_model_that_holds_what_it_computed_can_be_copied() -> None:
    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2)), nn.Linear(2, 2))
    model.kept = {"deep": [(model(torch.ones(1, 2)),)], "word": "x"}  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    other = copied(model)  # type: ignore[arg-type]
    assert torch.equal(other.kept["deep"][0][0], model.kept["deep"][0][0])  # type: ignore[index]
    assert not other.kept["deep"][0][0].requires_grad  # type: ignore[index]
    assert {id(p) for p in other.parameters()}.isdisjoint(id(p) for p in model.parameters())


MODELS = """
import torch
from torch import nn
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics


class Field(VectorField):
    def __init__(self, dropout):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2))
        self.context = None

    def forward(self, t, y):
        return self.net(torch.cat([y, self.context], dim=1))


class Told(Model):
    numerics = Numerics.ANY
    dropout = 0.0

    def __init__(self, network):
        super().__init__(network)
        self.encoder, self.field, self.head = nn.Linear(2, 2), Field(self.dropout), network.head()

    def encode(self, inputs):
        context = self.encoder(inputs)
        self.field.context = context.detach() if self.dropout else context
        return super().encode(torch.zeros_like(inputs))

    def evolve(self, y0, ts, integrate):
        return integrate(self.field, y0, ts)


class Dropping(Told):
    dropout = 0.3
"""
QUICK = ("-cd", "conf", "trainer=quick", "trainer.max_steps=3", "logger=none", "task.train=60", "solver=rk4")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    own_models(tmp_path, "own_told", MODELS, "Told", "Dropping")
    return tmp_path


def test_a_run_with_such_a_model_is_refused_in_a_line(own: Path) -> None:
    ended = typed(*QUICK, "model=told", "gradient=adjoint", cwd=own)
    assert ended.returncode == 2
    assert "Field reads a tensor that was computed before the solve" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not list(own.glob("outputs/**/record.json"))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("model", ["told", "dropping"])
def test_such_models_are_audited(own: Path, model: str) -> None:
    gradient = "backprop" if model == "told" else "checkpoint"
    ended = typed(
        *QUICK, "trainer.device=cpu", f"model={model}", f"gradient={gradient}", "trainer.audit_every=1", cwd=own
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert record_of(own)["cost"]["gradient_error"] < 1e-5
    audited = typed(*QUICK, "trainer.device=cpu", f"model={model}", "audit=true", cwd=own)
    assert audited.returncode == 0, audited.stderr + audited.stdout
    assert ("reads a tensor" if model == "told" else "draws random numbers") in audited.stdout


def test_an_audit_says_what_it_cannot_compare_with(own: Path) -> None:
    adaptive = [word for word in QUICK if word != "solver=rk4"]
    ended = typed(*adaptive, "model=dropping", "tolerance=1", "audit=true", cwd=own)
    assert ended.returncode == 2
    assert "draws random numbers" in ended.stderr
    assert "solver=rk4" in ended.stderr


def test_a_look_that_would_wait_while_a_graph_is_recorded_is_left_to_the_next_solve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU; the tenth solve may be one of those that are recorded."""
    strange = torch.ones(3, requires_grad=True)
    field, integrate = Made(lambda self, t, y: self.net(y) * strange), Integrator(solver=RK, gradient=Checkpoint())
    monkeypatch.setattr("ode_runner.integrator.may_wait", lambda device: False)
    for _ in range(2):
        integrate(field, torch.randn(2, 3), TS)
    monkeypatch.setattr("ode_runner.integrator.may_wait", lambda device: True)
    with pytest.raises(IncompatibleChoice, match="reads a tensor that asks for a gradient"):
        integrate(field, torch.randn(2, 3), TS)
