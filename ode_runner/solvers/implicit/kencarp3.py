"""Kennedy and Carpenter's additive (implicit-explicit) pair of orders 3 and 2."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, final

from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import FieldAround, VectorField
from ode_runner.fields.structured_field import SplitField
from ode_runner.solvers.implicit.diagonally_implicit import AdaptiveImplicit
from ode_runner.solvers.implicit.implicit import Begin
from ode_runner.solvers.implicit.newton import Newton
from ode_runner.solvers.tableau import EmbeddedTableau, advance, stage_time, time_tensor
from ode_runner.types import State, Time

G = Fraction(1767732205903, 4055673282236)
EXPLICIT = (
    (Fraction(0),),
    (2 * G, Fraction(0)),
    (Fraction(5535828885825, 10492691773637), Fraction(788022342437, 10882634858940), Fraction(0)),
    (
        Fraction(6485989280629, 16251701735622),
        -Fraction(4246266847089, 9704473918619),
        Fraction(10755448449292, 10357097424841),
        Fraction(0),
    ),
)
B = (
    Fraction(1471266399579, 7840856788654),
    -Fraction(4482444167858, 7529755066697),
    Fraction(11266239266428, 11593286722821),
    G,
)
IMPLICIT = (
    (Fraction(0),),
    (G, G),
    (Fraction(2746238789719, 10658868560708), -Fraction(640167445237, 6845629431997), G),
    B,
)
JUDGE = (
    Fraction(2756255671327, 12835298489170),
    -Fraction(10771552573575, 22201958757719),
    Fraction(9247589265047, 10645013368117),
    Fraction(2193209047091, 5459859503100),
)


def _in_turn(wholes: tuple[Fraction, ...], parts: tuple[Fraction, ...]) -> tuple[float, ...]:
    """Weights of the field and of its second part at the first stage, at the second, and so on."""
    return tuple(float(weight) for pair in zip(wholes, parts, strict=True) for weight in pair)


def _of_field(weights: tuple[Fraction, ...]) -> tuple[float, ...]:
    return _in_turn(weights, (Fraction(0),) * len(weights))


# The explicit tableau applies to all of f; the difference of the implicit tableau from it applies to the second part.
ROWS = tuple(
    _in_turn(explicit, tuple(i - e for i, e in zip(implicit, explicit, strict=True)))
    for explicit, implicit in zip(EXPLICIT, IMPLICIT, strict=True)
)


@final
class _SecondPart(FieldAround):
    """The implicit part as a field of its own."""

    def __init__(self, field: SplitField) -> None:
        super().__init__()
        self.field: SplitField = field

    def forward(self, t: Time, y: State) -> State:
        return self.field.second_part(t, y)


@final
@dataclass(frozen=True, kw_only=True)
class KenCarp3(AdaptiveImplicit):
    """Order 3(2), for sums of two parts: the first is explicit, in four stages, the second implicit, in three of them.

    The implicit method is L-stable; the explicit one limits the step if the first part is stiff. Newton's method solves
    for the second part only. If that is very stiff, the order drops to 2, because the method is not stiffly accurate;
    errors of 30 times the tolerance were seen. A field without parts is refused: use `kvaerno3`, which is fully
    implicit.

    The method is ARK3(2)4L[2]SA of Kennedy, Carpenter. Additive Runge-Kutta schemes for convection-diffusion-reaction
    equations. Appl. Numer. Math. 44, 2003.
    """

    kind: ClassVar[str] = "adaptive, implicit in one of two parts"
    fields: ClassVar[type] = SplitField
    fields_in_words: ClassVar[str] = "a field that is a sum of two parts"
    example: ClassVar[str] = "task=closed_form task.problem=heavy_ball"
    order: int = field(default=3, init=False)
    # Each stage has two slopes, of f and of its second part, at the same point; both parts have the same b.
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=tuple(row for row in ROWS for _ in ("f", "second part")),
        b=_of_field(B),
        b_error=_of_field(tuple(b - judge for b, judge in zip(B, JUDGE, strict=True))),
    )

    def newton(self, field: VectorField, *, patient: bool = True) -> Newton:
        if isinstance(field, Newton):
            return field
        if not isinstance(field, SplitField):
            raise IncompatibleChoice(f"{self.shown_name} needs {self.fields_in_words}. Use solver=kvaerno3.")
        return Newton(field, patient=patient, part=_SecondPart(field))

    def step(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        if t0 == t1:
            return y0, []
        newton = self.newton(field)
        split, weight, begin = newton.field, (t1 - t0) * float(G), Begin(t0, y0, f0)
        assert isinstance(split, SplitField)
        ks, place = [f0, f0 - split.first_part(time_tensor(t0, y0), y0)], y0
        for row in ROWS[1:]:
            t = time_tensor(stage_time(t0, t1, sum(row)), y0)
            known = advance(y0, t1 - t0, row[:-2], ks)
            place = self.stage(newton, t, known, weight, guess=place, begin=begin)
            second = (place - known) / weight  # from the stage equation, not by another evaluation
            ks += [split.first_part(t, place) + second, second]
        return advance(y0, t1 - t0, self.tableau.b, ks), ks
