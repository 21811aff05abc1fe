"""Many small solves at once, each with steps of its own: on a GPU as one kernel, and one operation at a time.

Lorenz's equations for as many values of rho, as in tests.benchmarks.ensembles, by tsit5 at 1e-6 in double precision,
and networks in the plane by dopri5 at 1e-4 in single precision; and the same with derivatives by rho or the weights,
where these are few. The ends of a thousand are compared with those at a tolerance of a hundredth of that.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ode_runner as ode
from tests.benchmarks.measure import now

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST_EAGER, MOST_EAGER_BACK = 100_000, 10_000  # more take seconds
COMPARED, ALLOWED = 1_000, 1_000  # samples, and by how many times the tolerance they may be off
WIDTHS = ((16,), (64, 64))
DIFFERENTIATED = ("lorenz", "2-16-2")
REPEATS, WARMUP = 5, 1
MOST_RHO = 21.0


def main() -> int:
    """0: done; 1: an end is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.ensembles", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try whether it runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of trajectories")
    options = parser.parse_args()
    device, found = torch.device(options.device), list[dict[str, Any]]()
    for name, make in {"lorenz": lorenz, **{_name(widths): _network(widths) for widths in WIDTHS}}.items():
        for size in options.sizes:
            found.append({"field": name, "trajectories": size, **measured(*make(size, device), device)})
            if name in DIFFERENTIATED:
                found[-1] |= differentiated(*make(size, device), device)
            print("  ".join(f"{key} {value}" for key, value in found[-1].items()), flush=True)
            options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return int(any(row["off_by_tolerances"] > ALLOWED for row in found))


@torch.no_grad()
def measured(
    field: Callable[..., Tensor], y0: Tensor, given: list[Tensor], by: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """Milliseconds of a solve, eager ones where that does not take too long, and of compiling."""
    ts = torch.tensor([0.0, 1.0], dtype=y0.dtype, device=device)
    begun = now(device)
    compiled = ode.compile(_frozen(field), y0, ts, given=given, **by)
    made = now(device) - begun
    row = {"compiled_milliseconds": _milliseconds(lambda: compiled(y0, ts, given=given), device)}
    if len(y0) <= MOST_EAGER:
        row["eager_milliseconds"] = _milliseconds(lambda: ode.integrate(field, y0, ts, given=given, **by), device)
    few, fine = slice(0, len(y0), max(len(y0) // COMPARED, 1)), {key: by[key] / 100 for key in ("rtol", "atol")}
    exact = ode.integrate(field, y0[few], ts, given=[z[few] for z in given], **by | fine).ys[-1]
    off = (compiled(y0, ts, given=given).ys[-1][few] - exact).abs().max() / by["atol"]
    return {**{name: round(x, 4) for name, x in row.items()}, "off_by_tolerances": float(off), "made_in_seconds": made}


def differentiated(
    field: Callable[..., Tensor], y0: Tensor, given: list[Tensor], by: dict[str, Any], device: torch.device
) -> dict[str, float]:
    """Milliseconds of a solve and its backward pass."""
    ts, given = torch.tensor([0.0, 1.0], dtype=y0.dtype, device=device), [z.requires_grad_() for z in given]
    moving = [*given, *(field.parameters() if isinstance(field, nn.Module) else ())]
    compiled = ode.compile(field, y0, ts, given=given, **by)

    def pulled(ys: Tensor) -> Sequence[Tensor]:
        return torch.autograd.grad(ys[-1].sum(), moving)

    row = {"compiled_back": _milliseconds(lambda: pulled(compiled(y0, ts, given=given).ys), device)}
    if len(y0) <= MOST_EAGER_BACK:
        eager = {**by, "gradient": "checkpoint"}
        row["eager_back"] = _milliseconds(lambda: pulled(ode.integrate(field, y0, ts, given=given, **eager).ys), device)
    return {f"{name}_milliseconds": round(x, 4) for name, x in row.items()}


def _frozen(field: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Whose derivative nobody asks for."""
    return field.requires_grad_(False) if isinstance(field, nn.Module) else field


def lorenz(size: int, device: torch.device) -> tuple[Callable[..., Tensor], Tensor, list[Tensor], dict[str, Any]]:
    def field(t: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        y1, y2, y3 = y.unbind(-1)
        return torch.stack([10.0 * (y2 - y1), y1 * (rho[..., 0] - y3) - y2, y1 * y2 - 8 / 3 * y3], dim=-1)

    rho = torch.linspace(0, MOST_RHO, size, dtype=torch.float64, device=device)[:, None]
    y0 = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, device=device).expand(size, 3)
    return field, y0, [rho], {"solver": "tsit5", "per_sample": True, "rtol": 1e-6, "atol": 1e-6}


def _network(widths: tuple[int, ...]) -> Callable[..., Any]:
    def made(size: int, device: torch.device) -> tuple[Any, ...]:
        torch.manual_seed(0)
        sizes = (2, *widths, 2)
        layers = [layer for pair in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(*pair), nn.Tanh())]
        net, y0 = nn.Sequential(*layers[:-1]).to(device), torch.randn(size, 2).to(device)
        field = _Autonomous(net)
        return field, 3 * y0, [], {"solver": "dopri5", "per_sample": True, "rtol": 1e-4, "atol": 1e-4}

    return made


class _Autonomous(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return 5 * self.net(y)


def _name(widths: tuple[int, ...]) -> str:
    return "-".join(map(str, (2, *widths, 2)))


def _milliseconds(solve: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(WARMUP + REPEATS):
        begun = now(device)
        solve()
        seconds.append(now(device) - begun)
    return 1e3 * statistics.median(seconds[WARMUP:])


if __name__ == "__main__":
    sys.exit(main())
