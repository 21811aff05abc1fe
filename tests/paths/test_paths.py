"""Paths and heads: derivatives against autograd, inverses, exact conversions, and the pairs that are singular."""

import typing

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jvp

from ode_runner.errors import IncompatibleChoice
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.heads import Head, check_span, convert, default_end_time
from ode_runner.paths.named import PathName, path_named

NAMES: tuple[PathName, ...] = typing.get_args(PathName)
INSIDE = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest) -> GaussianPath:
    return path_named(request.param)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_derivatives_are_those_of_autograd(path: GaussianPath) -> None:
    for function, derivative in (
        (path.alpha, path.alpha_dot),
        (path.sigma, path.sigma_dot),
        (path.log_snr, path.log_snr_dot),
    ):
        _, expected = jvp(function, INSIDE, torch.ones_like(INSIDE))
        close(derivative(INSIDE), expected)


def test_log_snr_is_that_of_alpha_and_sigma_and_inverted(path: GaussianPath) -> None:
    close(path.log_snr(INSIDE), torch.log(path.alpha(INSIDE) / path.sigma(INSIDE)))
    close(path.rho(INSIDE), path.sigma(INSIDE) / path.alpha(INSIDE))
    close(path.time_of_log_snr(path.log_snr(INSIDE)), INSIDE)
    close(path.time_of_rho(path.rho(INSIDE)), INSIDE)
    assert (path.log_snr_dot(INSIDE) < 0).all()


def test_the_forward_equation_has_the_moments_of_the_path(path: GaussianPath) -> None:
    """d sigma^2 / dt = 2 F sigma^2 + g^2, whence also the closed forms of g^2."""
    sigma = path.sigma(INSIDE)
    grown = 2 * path.drift_rate(INSIDE) * sigma.square() + path.squared_diffusion(INSIDE)
    close(grown, 2 * sigma * path.sigma_dot(INSIDE))


def test_known_values() -> None:
    half = torch.tensor(0.5, dtype=torch.float64)
    vp = path_named("vp")
    close(vp.alpha(half), torch.exp(torch.tensor(-(19.9 / 16 + 0.05 / 2), dtype=torch.float64)))
    close(vp.squared_diffusion(half), torch.tensor(10.05, dtype=torch.float64))
    subvp = path_named("subvp")
    close(subvp.squared_diffusion(half), 10.05 * (1 - subvp.alpha(half) ** 4))
    close(path_named("linear").squared_diffusion(half), torch.tensor(2.0, dtype=torch.float64))
    assert path_named("ve").noise_std == pytest.approx(10)
    one = torch.ones((), dtype=torch.float64)
    assert path_named("cosine").alpha(one) == 0, "not 6e-17, whose sign is a matter of rounding"
    assert float(vp.rho(one)) == pytest.approx(152, abs=1)
    assert float(vp.rho(1e-3 * one)) == pytest.approx(0.0105, abs=1e-4)


@pytest.mark.parametrize("head", Head)
@pytest.mark.parametrize("name", NAMES)
def test_heads_convert_into_each_other(name: PathName, head: Head) -> None:
    """Data and noise that are known make every prediction known."""
    path, t = path_named(name), INSIDE
    x0, eps = torch.sin(5 * t), torch.cos(7 * t)
    x = path.noised(t, x0, eps)
    velocity = path.alpha_dot(t) * x0 + path.sigma_dot(t) * eps
    known = {Head.V: velocity, Head.EPS: eps, Head.X0: x0, Head.SCORE: -eps / path.sigma(t)}
    for wanted, expected in known.items():
        found = convert(path, head, wanted, t, x, known[head])
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    flow = path.drift_rate(t) * x - path.squared_diffusion(t) * known[Head.SCORE] / 2
    torch.testing.assert_close(flow, velocity, rtol=1e-8, atol=1e-8)


def test_end_times() -> None:
    ends = {(name, head): default_end_time(path_named(name), head) for name in NAMES for head in (Head.V, Head.EPS)}
    assert ends["linear", Head.V] == 0
    assert ends["linear", Head.EPS] == ends["vp", Head.V] == ends["vp", Head.EPS] == ends["cosine", Head.V] == 1e-3
    assert ends["ve", Head.EPS] == 1e-5


@pytest.mark.parametrize(
    ("name", "head", "start", "end", "refused"),
    [
        ("linear", Head.V, 1.0, 0.0, ""),
        ("linear", Head.EPS, 1.0, 1e-3, "Begin at 0.999"),
        ("linear", Head.SCORE, 1.0, 1e-3, "Begin at 0.999"),
        ("linear", Head.EPS, 0.999, 1e-3, ""),
        ("linear", Head.X0, 1.0, 1e-3, ""),
        ("linear", Head.X0, 1.0, 0.0, "End at 0.001"),
        ("cosine", Head.EPS, 1.0, 1e-3, "Begin at 0.999"),
        ("vp", Head.EPS, 1.0, 1e-3, ""),
        ("vp", Head.EPS, 1.0, 0.0, "End at 0.001"),
        ("ve", Head.SCORE, 1.0, 0.0, ""),
    ],
)
def test_singular_pairs_are_refused(name: PathName, head: Head, start: float, end: float, refused: str) -> None:
    def check() -> None:
        names = (f"model.path={name}", f"model.head={head}")
        check_span(path_named(name), head, start=start, end=end, names=names)

    if not refused:
        check()
        return
    with pytest.raises(IncompatibleChoice, match=refused):
        check()


@pytest.mark.parametrize("name", ["linear", "vp", "ve", "cosine"])
def test_sampling_begins_with_the_spread_of_the_states_there(name: str) -> None:
    """With that of t = 1, samples of ve from 0.8 were four times too far apart, and few came to the data."""
    path = path_named(name)
    assert path.std_at(1.0) == path.noise_std
    t = torch.tensor(0.8, dtype=torch.float64)
    states = path.alpha(t) * torch.randn(10**5, dtype=torch.float64) + path.sigma(t) * torch.randn(
        10**5, dtype=torch.float64
    )
    assert path.std_at(0.8) == pytest.approx(float(states.std()), rel=0.02)
