"""The task of learning a density in the plane from samples of a known distribution."""

from collections.abc import Iterator
from statistics import fmean
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ode_runner.batch import Drawn, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.paths.denoising_field import DenoisingField, KnownDistribution
from ode_runner.paths.named import PathName
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.density import animate_samples, draw_density, draw_samples
from ode_runner.plots.figure_types import Figure
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.densities.plane_distributions import GAUSSIANS, OTHERS, PlaneDistribution, gaussians
from ode_runner.tasks.densities.true_field_choices import known_field
from ode_runner.tasks.density import DensityTask, in_parts
from ode_runner.tasks.density_mass import mass_of
from ode_runner.tasks.sizes import MOST_EACH_WAY, check_counts, split_sizes

Name = Literal[
    "8gaussians",
    "8gaussians_narrow",
    "moons",
    "circles",
    "pinwheel",
    "checkerboard",
    "2spirals",
    "swissroll",
    "rings",
]
NEAR = 3.0  # standard deviations from a component's centre within which samples are near it
REACH = 5.0  # the mass is summed over at least [-REACH, REACH]^2
SHOWN = 3.5  # a picture shows at least [-SHOWN, SHOWN]^2, where the initial noise of samples is
MARGIN = 0.25  # the extent of both is at least that of the data, plus this share of it on each side
FIELD_TIMES, FIELD = (0.1, 0.3, 0.5, 0.7, 0.9), 2  # times at which a learned field is compared with the true one; seed
NEARLY_ONE = 0.999  # alpha at the end of a path, below which x / alpha is not taken for x
OF_WAYS = ("straightness", "transport_cost")  # metrics of the ways of samples, and of their ends
OF_ENDS = ("endpoint_rmse", "sw2", "near_centres", "right_centre")
CELLS, SAMPLES, TIMES, FRAMES = 100, 2000, 5, 31  # of pictures: cells, samples, times, frames of the animation


@final
class Density2D(DensityTask):
    """Points of a distribution in the plane, chosen by `name` from those of `plane_distributions`.

    `mass` is the integral of the learned density over a square around the data, by the run's own solver, as a sum over
    `grid` times `grid` cells: it is 1 for an accurately solved flow. `mass_error` is the error of the sum.

    If `conditional`, the component of each point is appended to it one-hot, as the condition; the density of mass and
    pictures is the mean over components. `right_centre` is then the share of samples whose nearest centre is that of
    their component, if components have centres. `near_centres` is the share of samples within three standard deviations
    of a centre: for separate normal components 1 - exp(-9/2) = 0.9889.

    Args:
        radius: of the circle of eight normal distributions (8gaussians*); None: the default for this name.
        std: of each of them.
        path: between distribution and noise, for the true field; None: linear.
        start_time: where samples by the true field begin; None: at 1.
        end_time: where they end; None: the path's default.
        clock: variable of integration of the true field: `rho` = sigma / alpha, for the state x / alpha; None: t.
    """

    has_true_field: ClassVar[bool] = True
    test_only: ClassVar[frozenset[str]] = frozenset({"grid"})
    of_true_field: ClassVar[frozenset[str]] = frozenset({"path", "start_time", "end_time", "clock"})

    def __init__(
        self,
        *,
        name: Name,
        radius: float | None,
        std: float | None,
        conditional: bool,
        path: PathName | None,
        start_time: float | None,
        end_time: float | None,
        clock: Literal["t", "rho"] | None,
        train: int,
        validation: int,
        test: int,
        grid: int,
        seed: int,
        device: torch.device,
    ) -> None:
        sizes = split_sizes(train=train, validation=validation, test=test)
        check_counts(2, MOST_EACH_WAY, grid=grid)
        distribution = distribution_of(name, radius, std)
        if conditional and distribution.components == 1:
            raise RefusedInput(
                f"task.conditional=true needs a distribution with several components; task.name={name} has one."
            )
        points, component = distribution.draw(sum(sizes.values()), torch.Generator().manual_seed(seed))
        if conditional:
            points = torch.cat([points, one_hot(component, distribution.components)], dim=1)
        drawn = points.float().split(list(sizes.values()))
        entropies = distribution.entropies()
        entropy = entropies.within if conditional else entropies.whole
        super().__init__(dict(zip(sizes, drawn, strict=True)), entropy=entropy, seed=seed, device=device)
        self.grid, self.distribution = grid, distribution
        self.conditions = torch.eye(distribution.components if conditional else 0, device=device)
        self.known = known_field(distribution, path, start_time, end_time, name=name, clock=clock)
        self.spec = TaskSpec(
            input_shape=(2,),
            output_shape=(2,),
            condition=len(self.conditions),
            std=float(drawn[0][:, :2].std()),
            field=self.known.field,
            sampled=self.known.sampled,
        )

    def introduction(self) -> Iterator[str]:
        if self.known.by_rho and self.known.end_alpha < NEARLY_ONE:
            alpha = f"{self.known.end_alpha:.4g}"
            yield f"task.clock=rho solves for x / alpha: samples, and numbers about them, are of x / {alpha}"

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        mass = self._mass(view) if view.answers else {}
        return super().model_metrics(view) | mass

    def field_metrics(self, field: VectorField) -> dict[str, float]:
        """The root mean square difference between a path model's field and the true one, at noised data.

        It is a mean over those of FIELD_TIMES at which the field was learned; at others it has arbitrary values.
        """
        times = self._learned_times(field)
        if not (times and isinstance(field, DenoisingField) and isinstance(self.spec.field, KnownDistribution)):
            return {}
        true, drawn = self.spec.field.along(field.path), torch.Generator().manual_seed(FIELD)
        data, condition = self.spec.split_condition(self.points[Split.TEST])
        noise = torch.randn(data.shape, generator=drawn).to(data)
        given = [condition] if self.spec.condition else []
        squares = {}
        for t in times:
            x = field.path.noised(torch.tensor(t), data, noise).to(next(field.parameters()).dtype)
            apart = field(x.new_tensor(t), x, *given) - true(x.new_tensor(t), x, *given)
            squares[t] = float(apart.square().sum(dim=1).mean())
        named = {f"field_rmse_t{t:g}": square**0.5 for t, square in squares.items()}
        return {"field_rmse": fmean(squares.values()) ** 0.5} | named

    def measured_with(self, view: ModelView) -> dict[str, str]:
        """Velocities along different paths are different quantities, and their errors depend on the time.

        So are ways of x / alpha and of x, and their ends if alpha is not 1 there.
        """
        if self.known.by_rho:
            ends = OF_ENDS if self.known.end_alpha < NEARLY_ONE else ()
            return super().measured_with(view) | dict.fromkeys((*OF_WAYS, *ends), "x / alpha, by task.clock=rho,")
        times = self._learned_times(view.field)
        if not times or not isinstance(view.field, DenoisingField):
            return super().measured_with(view)
        velocity = f"the velocity along {view.field.path.name}"
        whole = f"{velocity} at t = {', '.join(f'{t:g}' for t in times)}"
        return super().measured_with(view) | {"field_rmse": whole, **{f"field_rmse_t{t:g}": velocity for t in times}}

    def sample_metrics(self, samples: Tensor) -> dict[str, float]:
        if self.distribution.centres is None or self.distribution.std is None:
            return super().sample_metrics(samples)
        apart, nearest = torch.cdist(samples.cpu().double(), self.distribution.centres).min(dim=1)
        found = {"near_centres": float((apart < NEAR * self.distribution.std).double().mean())}
        if len(self.conditions):
            own = self.sampled_conditions().argmax(dim=1).cpu()
            found["right_centre"] = float((nearest == own).double().mean())
        return super().sample_metrics(samples) | found

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality="nll")
        test, _ = self.spec.split_condition(self.points[Split.TEST][:SAMPLES])
        side = self._side(SHOWN)
        cells, _ = self._cells(CELLS, side)
        density = self._density(view, cells).view(CELLS, CELLS) if view.tells else None
        whole = None if view.sample is None else self.drawn(view, times=TIMES).path
        path, drawn = (None, 0) if whole is None else (whole[:, :SAMPLES], whole.shape[1])
        samples, tested = None if path is None else path[-1], len(self.points[Split.TEST])
        yield (
            "density",
            draw_density(test, density, samples=samples, side=side, tested=tested, drawn=drawn, guidance=view.guidance),
        )
        if path is not None:
            yield "samples", draw_samples(path, side=side, drawn=drawn)
        if path is not None and view.animate:
            yield "samples_in_motion", animate_samples(self.drawn(view, times=FRAMES).path[:, :SAMPLES], side=side)

    def sample_figures(self, drawn: Drawn) -> Iterator[tuple[str, Figure]]:
        yield "samples", draw_samples(drawn.path[[0, -1]], side=self._side(SHOWN), drawn=drawn.path.shape[1])

    def _learned_times(self, field: VectorField | None) -> list[float]:
        """Those of FIELD_TIMES at which a field was learned and the true one is known."""
        known = isinstance(self.spec.field, KnownDistribution)
        if not known or not isinstance(field, DenoisingField) or isinstance(field, KnownDistribution):
            return []
        return [t for t in FIELD_TIMES if field.span[0] <= t <= field.span[1]]

    def _mass(self, view: ModelView) -> dict[str, float]:
        cells, area = self._cells(self.grid, self._side(REACH))
        return mass_of(self._density(view, cells).view(self.grid, self.grid), area)

    def _density(self, view: ModelView, points: Tensor) -> Tensor:
        """The learned density at points of the plane, by the run's own solver; a mean over the conditions."""
        conditioned = [torch.cat([points, one.expand(len(points), -1)], dim=1) for one in self.conditions] or [points]
        parts = [in_parts(lambda inputs: view.predict(inputs, None), inputs) for inputs in conditioned]
        return torch.stack(parts).exp().mean(dim=0)

    def _side(self, least: float) -> tuple[float, float]:
        """The interval shown in each dimension: [-least, least], extended to the data and a margin around them."""
        points, _ = self.spec.split_condition(torch.cat(list(self.points.values())))
        low, high = float(points.min()), float(points.max())
        margin = MARGIN * (high - low)
        return min(-least, low - margin), max(least, high + margin)

    def _cells(self, count: int, side: tuple[float, float]) -> tuple[Tensor, float]:
        """Centres of the cells, (count^2, 2), with the first coordinate varying slowest, and the area of a cell."""
        low, high = side
        size = (high - low) / count
        middles = low + size * (torch.arange(count, device=self.ts.device) + 0.5)
        return torch.cartesian_prod(middles, middles), size**2


def distribution_of(name: Name, radius: float | None, std: float | None) -> PlaneDistribution:
    """The distribution of this name.

    Raises:
        RefusedInput: a radius or standard deviation is not positive, or the distribution does not have it.
    """
    for option, value in (("radius", radius), ("std", std)):
        if value is not None and name not in GAUSSIANS:
            raise RefusedInput(
                f"task.{option} is of task.name={' or '.join(GAUSSIANS)}, and not of {name}. Leave it out."
            )
        if value is not None and value <= 0:
            raise RefusedInput(f"task.{option} must be above 0, not {value}.")
    if name in OTHERS:
        return OTHERS[name]
    own_radius, own_std = GAUSSIANS[name]
    return gaussians(own_radius if radius is None else radius, own_std if std is None else std)
