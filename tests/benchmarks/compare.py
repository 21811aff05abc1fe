"""`make bench-compare BASE=revision`: this working tree against another revision, on the steps of `make bench`.

Two processes, one a revision, take a block of the same steps in turn, so that a slow minute hits both alike. Of each
row: the median over pairs of this tree's time over the other's, and the interval that holds that median in 97.8 % of
cases at ten pairs (by the signs of the pairs alone: it assumes nothing of their distribution).
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from scipy.stats import binom

from tests.benchmarks.clock import add_pairs
from tests.benchmarks.report import describe, print_rows

OUTPUTS = Path("outputs/bench")
ROOT = Path(__file__).parents[2]
BLOCK_SECONDS = 0.2


class Worker:
    """A process that takes steps of the revision in `checkout`; `rows` are what it can be asked for."""

    def __init__(self, checkout: Path, data_dir: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "ODE_RUN_DATA": str(data_dir.resolve())}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            cwd=checkout,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.rows: list[str] = []
        while row := self._read():
            self.rows.append(row)

    def seconds(self, row: str, steps: int) -> float:
        """Of CPU, that `steps` steps of a row take."""
        assert self._process.stdin
        self._process.stdin.write(f"{row}\t{steps}\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("bench-compare: the process of one revision ended; its own words stand above.")
        return line.rstrip("\n")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of one row: seconds a step, this tree's and the other's, pair by pair."""

    row: str
    here: list[float]
    there: list[float]

    @property
    def ratios(self) -> list[float]:
        return [here / there for here, there in zip(self.here, self.there, strict=True)]

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the median of the ratio in at least 95 % of cases, where there are six pairs or more."""
        ratios = sorted(self.ratios)
        cut = max(0, int(binom.ppf(0.025, len(ratios), 0.5)) - 1)
        return ratios[cut], ratios[-1 - cut]


def main() -> int:
    """0: compared; other revisions than those that have these benchmarks end with their own words."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__)
    parser.add_argument("base", help="the other revision, as git names it")
    add_pairs(parser, default=10, of="blocks of each")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("ODE_RUN_DATA") or "data"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        git = ("git", "-C", str(ROOT))
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(base), options.base], check=True)
        try:
            workers = Worker(ROOT, options.data_dir), Worker(base, options.data_dir)
            found = compare(*workers, options.pairs, only=options.only)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(base)], check=True)
    show(found, options.base)
    date = datetime.datetime.now().astimezone()
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    path = OUTPUTS / f"compare-{date:%Y-%m-%d-%H%M%S}.json"
    content = {
        "environment": describe(torch.device("cpu")),
        "base": options.base,
        "rows": [asdict(one) for one in found],
    }
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"Every sample: {path}")
    return 0


def compare(here: Worker, there: Worker, pairs: int, *, only: str) -> list[Comparison]:
    """Every wanted row that both have, block by block in turn; who goes first changes from pair to pair."""
    found = []
    for row in (row for row in here.rows if row in there.rows and only in row):
        here.seconds(row, 3)
        there.seconds(row, 3)
        steps = max(1, round(BLOCK_SECONDS / (there.seconds(row, 3) / 3)))
        samples: dict[Worker, list[float]] = {here: [], there: []}
        for turn in range(pairs):
            for worker in (here, there) if turn % 2 else (there, here):
                samples[worker].append(worker.seconds(row, steps) / steps)
        found.append(Comparison(row=row, here=samples[here], there=samples[there]))
        print(f"... {row}: {statistics.median(found[-1].ratios):.3f}", file=sys.stderr, flush=True)
    here.close()
    there.close()
    return found


def show(found: Sequence[Comparison], base: str) -> None:
    """Medians, and the interval of the median ratio."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("training step", base[:12], "here", "here / there", "interval"):
        table.add_column(heading)
    for one in found:
        there, here = (f"{1000 * statistics.median(seconds):.2f} ms" for seconds in (one.there, one.here))
        low, high = one.interval
        table.add_row(one.row, there, here, f"{statistics.median(one.ratios):.3f}", f"{low:.3f} to {high:.3f}")
    print_rows(table)


if __name__ == "__main__":
    sys.exit(main())
