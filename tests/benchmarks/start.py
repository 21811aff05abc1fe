"""What a user waits for: help, the first step of training, the end after the last line; torch's import beside them.

`python -m tests.benchmarks.start` runs each anew in a process of its own, all in turn. Words after it are added to the
run's command (`trainer.compile=on`).
"""

import argparse
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from tests.benchmarks.first_step import FILE
from tests.benchmarks.report import print_rows

ROOT = Path(__file__).parents[2]
RUN = ("task=half_moons", "trainer.max_steps=1")
TORCH = 'python -c "import torch"'
NOTING = """# @package logger.first_step
_target_: tests.benchmarks.first_step.FirstStep
"""


@dataclass(frozen=True)
class Wait:
    """Seconds by the clock, and of CPU where they are known."""

    clock: float
    cpu: float


def main() -> int:
    """Print medians over all turns but the first, which writes byte code and compiles where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.start", description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="how often each is run (default 7)")
    parser.add_argument("words", nargs="*", help="what else is typed after ode-run")
    options = parser.parse_args()
    turns: list[dict[str, Wait]] = []
    with tempfile.TemporaryDirectory() as name:
        noting = Path(name) / "conf" / "logger" / "first_step.yaml"
        noting.parent.mkdir(parents=True)
        noting.write_text(NOTING)
        for turn in range(options.turns + 1):
            turns.append(one_turn(Path(name), [*RUN, *options.words, f"output_dir=turn{turn}"]))
    show(turns[1:])
    return 0


def one_turn(folder: Path, words: list[str]) -> dict[str, Wait]:
    """Each wait once."""
    return {
        TORCH: whole(folder, "-c", "import torch"),
        "ode-run --help": whole(folder, "-m", "ode_runner", "--help"),
        **waits_of_run(folder, words),
    }


def whole(folder: Path, *arguments: str) -> Wait:
    """A process from its beginning to its end."""
    begun, cpu = time.time(), children_cpu()
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(), stdout=subprocess.DEVNULL, check=True)
    return Wait(time.time() - begun, children_cpu() - cpu)


def waits_of_run(folder: Path, words: list[str]) -> dict[str, Wait]:
    """A run to its first step, to its end, and from its last line to that."""
    command = [sys.executable, "-m", "ode_runner", "-cd", "conf", *words, "logger=[tensorboard,first_step]"]
    begun, cpu, last_line = time.time(), children_cpu(), 0.0
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout
        for _ in process.stdout:
            last_line = time.time()
    ended, cpu = time.time(), children_cpu() - cpu
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
    [noted] = (folder / words[-1].partition("=")[2]).rglob(FILE)
    first_step, first_cpu = map(float, noted.read_text().split())
    return {
        "to the first step of training": Wait(first_step - begun, first_cpu),
        "the whole run": Wait(ended - begun, cpu),
        "of which after its last line": Wait(ended - last_line, float("nan")),
    }


def children_cpu() -> float:
    """Seconds of CPU of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    """This one, with lines sent on as they are printed, on one thread unless something else is asked for."""
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def show(turns: Sequence[dict[str, Wait]]) -> None:
    """Medians, with least and most by the clock, and of CPU seconds also what they are of torch's in the same turn."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "by the clock", "least to most", "seconds of CPU", "of torch's import"):
        table.add_column(heading)
    for name in turns[0]:
        clock, cpu = ([getattr(turn[name], unit) for turn in turns] for unit in ("clock", "cpu"))
        cells = [f"{statistics.median(clock):.2f} s", f"{min(clock):.2f} to {max(clock):.2f}"]
        if not any(map(math.isnan, cpu)):
            of_torch = statistics.median(turn[name].cpu / turn[TORCH].cpu for turn in turns)
            cells += [f"{statistics.median(cpu):.2f} s", f"{of_torch:.2f}"]
        table.add_row(name, *cells)
    print_rows(table)
    print(f"Medians of {len(turns)} turns; load average {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    sys.exit(main())
