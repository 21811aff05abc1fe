"""How fast a trained generative run samples: images a second at several numbers of evaluations, eager and recorded."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

import ode_runner
from ode_runner.tasks.sampled import SampledTask
from tests.benchmarks.measure import now

STEPS = (5, 10, 25)  # of Heun's method: 10, 20 and 50 evaluations


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.sampling", description=__doc__)
    parser.add_argument("run", type=Path, help="its folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000, help="images at once (default 1000)")
    options = parser.parse_args()
    found = []
    for steps in STEPS:
        run = ode_runner.load(options.run, "solver=heun", f"solver.num_steps={steps}")
        for records in (False, True):
            row = {"evaluations": 2 * steps, "recorded": records, **_seconds(run, options.count, records=records)}
            found.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return 0


def _seconds(run: "ode_runner.Run", count: int, *, records: bool) -> dict[str, float]:
    """Of one drawing, the least of several after those that warm up, and images a second."""
    experiment = replace(run.experiment, integrator=replace(run.experiment.integrator, records=records))
    assert isinstance(experiment.task, SampledTask)
    given = [experiment.task.sampled_conditions()[:1].expand(count, -1)] if experiment.task.spec.condition else []
    experiment.model.eval()
    taken = []
    with torch.no_grad():
        for turn in range(7):
            begun = now(experiment.device)
            experiment.generate(torch.arange(count) + turn * count, given=given)
            taken.append(now(experiment.device) - begun)
    return {"seconds": min(taken[4:]), "images_per_second": count / min(taken[4:])}


if __name__ == "__main__":
    sys.exit(main())
