"""The exact distribution of what samplers with noise draw where data are normal: of every step, and as steps grow."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.named import PathName, path_named
from ode_runner.solvers.base import Solver
from ode_runner.solvers.samplers.sampler import Sampler
from ode_runner.solvers.samplers.sampling_grid import Level, sampling_grid
from ode_runner.tasks.densities.gaussian_mixture import GaussianMixture
from tests.composition import Compose
from tests.problems import build

MEAN, STD = 0.6, 0.7  # of the data
START, END = 1.0, 0.05
DRAWN = 20_000
Affine = np.ndarray[Any, np.dtype[np.float64]]  # a random number, by its coefficients of 1 and of standard normal ones
SIZE = 500


class Affines:
    """Random numbers that are affine functions of independent standard normal ones, and what a path makes of them."""

    def __init__(self, path: GaussianPath) -> None:
        self.path, self.known = path, 1  # the first coefficient is that of 1
        self.one = np.eye(SIZE)[0]

    def normal(self) -> Affine:
        """A standard normal number that is independent of all before."""
        self.known += 1
        return np.eye(SIZE)[self.known - 1]

    def at(self, name: str, t: float) -> float:
        """What the path says of a time."""
        return float(getattr(self.path, name)(torch.tensor(t, dtype=torch.float64)))

    def level(self, t: float) -> tuple[float, float]:
        return self.at("alpha", t), self.at("sigma", t)

    def denoised(self, t: float, x: Affine) -> tuple[Affine, Affine]:
        """E[x_0 | x] and E[e | x]."""
        alpha, sigma = self.level(t)
        gain = alpha * STD**2 / ((alpha * STD) ** 2 + sigma**2)
        data = MEAN * self.one + gain * (x - alpha * MEAN * self.one)
        return data, (x - alpha * data) / sigma

    def drift(self, t: float, x: Affine) -> Affine:
        """Of the reverse equation, F x - g^2 score."""
        score = -self.denoised(t, x)[1] / self.at("sigma", t)
        return self.at("drift_rate", t) * x - self.at("squared_diffusion", t) * score

    def diffusion(self, t: float) -> float:
        return math.sqrt(self.at("squared_diffusion", t))

    def true(self, t: float) -> Affine:
        """The distribution of the path."""
        alpha, sigma = self.level(t)
        return alpha * MEAN * self.one + math.hypot(alpha * STD, sigma) * self.normal()


def moments(x: Affine) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(x[0]), float(np.linalg.norm(x[1:]))


Step = Callable[[Affines, Affine, float, float, dict[str, Any]], Affine]


def ancestral(distribution: Affines, x: Affine, t: float, u: float, eta: float) -> Affine:
    (_, before), (alpha, sigma) = distribution.level(t), distribution.level(u)
    ratio = (sigma / alpha) / (before / distribution.at("alpha", t))
    q = eta * sigma * math.sqrt(1 - ratio**2)
    data, noise = distribution.denoised(t, x)
    return alpha * data + math.sqrt(sigma**2 - q**2) * noise + q * distribution.normal()


def ddpm(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    """Song, Meng, Ermon 2021, equation 12; the last step is one of DDIM."""
    return ancestral(distribution, x, t, u, 0.0 if told["last"] else told["eta"])


def predictor_corrector(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    """Song et al. 2021, algorithm 5: of one dimension, whose norms are means of |normal|."""
    x = ancestral(distribution, x, t, u, 0.0 if told["last"] else 1.0)
    for _ in range(0 if told["last"] else told["corrections"]):
        score = -distribution.denoised(u, x)[1] / distribution.at("sigma", u)
        mean, std = moments(score)
        norm = std * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / 2 / std**2) + mean * math.erf(mean / std / 2**0.5)
        length = 2 * (distribution.at("alpha", t) / distribution.at("alpha", u)) ** 2
        length *= (told["signal_to_noise"] * math.sqrt(2 / math.pi) / norm) ** 2
        x = x + length * score + math.sqrt(2 * length) * distribution.normal()
    return x


def edm_heun(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    """Karras et al. 2022, algorithm 2, for y = x / alpha in rho."""
    (alpha, sigma), (end, last) = distribution.level(t), distribution.level(u)
    y, rho, goal = x / alpha, sigma / alpha, last / end
    if told["s_min"] <= rho <= told["s_max"]:
        higher = rho * (1 + min(told["s_churn"] / told["steps"], math.sqrt(2) - 1))
        y = y + told["s_noise"] * math.sqrt(higher**2 - rho**2) * distribution.normal()
        t, rho = float(distribution.path.time_of_rho(torch.tensor(higher, dtype=torch.float64))), higher
    slope = distribution.denoised(t, distribution.at("alpha", t) * y)[1]
    euler = y + (goal - rho) * slope
    return end * (y + (goal - rho) / 2 * (slope + distribution.denoised(u, end * euler)[1]))


def euler_maruyama(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    noise = 0.0 if told["last"] and told.get("last_noise") is not True else distribution.diffusion(t)
    return x + (u - t) * distribution.drift(t, x) + noise * math.sqrt(t - u) * distribution.normal()


def milstein(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    """Euler and Maruyama's step, for the noise is additive."""
    return euler_maruyama(distribution, x, t, u, {"last": False})


def heun_sde(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    w, dt = math.sqrt(t - u) * distribution.normal(), u - t
    first = dt * distribution.drift(t, x) + distribution.diffusion(t) * w
    return x + (first + dt * distribution.drift(u, x + first) + distribution.diffusion(u) * w) / 2


def midpoint_sde(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    w, dt, middle = math.sqrt(t - u) * distribution.normal(), u - t, (t + u) / 2
    half = x + (dt * distribution.drift(t, x) + distribution.diffusion(t) * w) / 2
    return x + dt * distribution.drift(middle, half) + distribution.diffusion(middle) * w


def srk(distribution: Affines, x: Affine, t: float, u: float, told: dict[str, Any]) -> Affine:
    """Roessler 2010, SRA1: `mean` is that of W over the step."""
    dt, root = u - t, math.sqrt(t - u)
    w = root * distribution.normal()
    mean = w / 2 + root / math.sqrt(12) * distribution.normal()
    first = distribution.drift(t, x)
    second = distribution.drift(t + 0.75 * dt, x + 0.75 * dt * first + 1.5 * distribution.diffusion(u) * mean)
    return x + dt * (first + 2 * second) / 3 + distribution.diffusion(u) * (w - mean) + distribution.diffusion(t) * mean


STEPS: dict[str, Step] = {
    "ddpm": ddpm, "predictor_corrector": predictor_corrector, "edm_heun": edm_heun, "euler_maruyama": euler_maruyama,
    "milstein": milstein, "heun_sde": heun_sde, "midpoint_sde": midpoint_sde, "srk": srk,
}  # fmt: skip
CHURN = {"s_min": 0.0, "s_max": math.inf, "s_noise": 1.0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("ddpm", {"eta": 1.0}),
    ("ddpm", {"eta": 0.4}),
    ("predictor_corrector", {"corrections": 1, "signal_to_noise": 0.16}),
    ("predictor_corrector", {"corrections": 3, "signal_to_noise": 0.1}),
    ("edm_heun", CHURN | {"s_churn": 2.0}),
    ("edm_heun", CHURN | {"s_churn": 1e4, "s_noise": 1.01}),
    ("edm_heun", CHURN | {"s_churn": 4.0, "s_min": 0.1, "s_max": 2.0}),
    ("euler_maruyama", {}),
    ("euler_maruyama", {"last_noise": True}),
    ("milstein", {}),
    ("heun_sde", {}),
    ("midpoint_sde", {}),
    ("srk", {}),
]


def times_of(solver: Solver, path: GaussianPath, steps: int) -> list[float]:
    if isinstance(solver, Sampler):
        grid = solver.grid or solver._grid_from(Level.at(path, START))
        return [level.t for level in sampling_grid(path, START, END, grid=grid, steps=steps)]
    count = math.ceil(steps * (START - END))  # `num_steps` of other solvers are those of a unit of time
    return [START + (END - START) * k / count for k in range(count + 1)]


def exact_end(name: str, solver: Solver, path: GaussianPath, steps: int, options: dict[str, Any]) -> Affine:
    """What a sampler makes of the true distribution at the first time."""
    distribution = Affines(path)
    times = times_of(solver, path, steps)
    x = distribution.true(START)
    for k, (t, u) in enumerate(zip(times, times[1:], strict=False)):
        x = STEPS[name](distribution, x, t, u, {**options, "steps": steps, "last": k == len(times) - 2})
    return x


def drawn(solver: Solver, path: GaussianPath) -> Tensor:
    """The same, by the sampler itself."""
    field = GaussianMixture(path, means=torch.full((1, 1), MEAN, dtype=torch.float64), std=STD)
    noise, (mean, std) = sample_noise(0, torch.arange(DRAWN)), moments(Affines(path).true(START))
    x = mean + std * noise.increment(1.0, 2.0, (1,), dtype=torch.float64).w
    ts = torch.tensor([START, END], dtype=torch.float64)
    with torch.no_grad():
        return Integrator(solver=solver, gradient=Backprop())(field, x, ts, noise=noise).ys[-1]


def built(composed: Compose, name: str, steps: int, options: dict[str, Any]) -> Solver:
    finite = {key: value for key, value in options.items() if value != math.inf}
    return build(composed, "solver", name, num_steps=steps, **finite)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path_name", ["subvp", "ve", "vp"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_samples_have_the_law_of_the_steps(
    composed: Compose, name: str, options: dict[str, Any], path_name: PathName
) -> None:
    """Of six steps, far from the end of the path: mean and variance within four of their errors."""
    path, solver = path_named(path_name), built(composed, name, 6, options)
    mean, std = moments(exact_end(name, solver, path, 6, options))
    found = drawn(solver, path)
    assert abs(float(found.mean()) - mean) < 4 * std / DRAWN**0.5
    assert abs(float(found.var()) / std**2 - 1) < 4 * (2 / DRAWN) ** 0.5


@pytest.mark.sampled(6)
@pytest.mark.parametrize("path_name", ["subvp", "ve", "vp"])
@pytest.mark.parametrize(
    ("name", "options"),
    [case for case in CASES if "signal_to_noise" not in case[1] and case[1].get("s_noise", 1.0) == 1.0],
)
def test_the_law_of_the_steps_nears_that_of_the_path(
    composed: Compose, name: str, options: dict[str, Any], path_name: PathName
) -> None:
    """Half the step, half the distance or less, of the mean and of the spread."""
    path, apart = path_named(path_name), []
    true = moments(Affines(path).true(END))
    for steps in (40, 80):
        mean, std = moments(exact_end(name, built(composed, name, steps, options), path, steps, options))
        apart.append((abs(mean - true[0]) / true[1], abs(std / true[1] - 1)))
    for coarse, fine in zip(*apart, strict=True):
        assert fine < 0.06
        assert fine < 0.6 * coarse or fine < 1e-4


def test_langevin_steps_leave_a_spread_that_is_too_large(composed: Compose) -> None:
    """By sqrt(1 + signal_to_noise^2), however many steps there are; with shorter ones by less."""
    path, options = path_named("ve"), {"corrections": 1, "signal_to_noise": 0.16}
    solver = built(composed, "predictor_corrector", 240, options)
    std = moments(exact_end("predictor_corrector", solver, path, 240, options))[1]
    assert std / moments(Affines(path).true(END))[1] == pytest.approx(math.sqrt(1 + 0.16**2), rel=5e-4)
