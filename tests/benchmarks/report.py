"""What a benchmark found: every sample as JSON, medians as a table."""

import datetime
import json
import os
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ode_runner.recording.environment import describe_environment
from tests.benchmarks.accuracy import GOAL, Course
from tests.benchmarks.agreement import Agreement
from tests.benchmarks.measure import Sample, Spread, cpu_ratio, data_share, evaluations, ratio, seconds
from tests.benchmarks.ours import BATCH_SIZE
from tests.benchmarks.overhead import Overhead

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")  # the last three: fast bf16
HEADINGS = (f"training step, batch {BATCH_SIZE}", "ours", "plain loop", "ours / plain", "NFE")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Of one invocation; samples by model, then by contender (ours, plain, ours bf16)."""

    options: dict[str, Any]
    environment: dict[str, Any]
    agreement: dict[str, Agreement]
    samples: dict[str, dict[str, list[Sample]]]
    overhead: Overhead
    race: dict[str, Course]  # empty unless asked for

    def write(self, folder: Path) -> Path:
        date = datetime.datetime.now().astimezone()
        medians = {row[0].strip(): row[1:] for row in self.rows()}
        content = {"date": date.isoformat(timespec="seconds"), "medians": medians, **vars(self)}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"training-{date:%Y-%m-%d-%H%M%S}.json"
        path.write_text(json.dumps(content, indent=1, default=_plain) + "\n", encoding="utf-8")
        return path

    def rows(self) -> list[tuple[str, ...]]:
        """As HEADINGS say, in words and units."""
        rows = [row for model, by_name in self.samples.items() for row in _rows_of(model, by_name)]
        for name, course in self.race.items():
            steps, spent, accuracy = course.curve[-1]
            reached = f"{spent:.0f} s, {steps} steps" if course.reached else f"{accuracy:.1%} after {steps} steps"
            columns = (reached, "") if name == "ours" else ("", reached)
            rows.append((f"to {GOAL:.0%} on the test set", *columns, "", ""))
        return rows

    def notes(self) -> list[str]:
        """What does not fit a column."""
        over, blocks = self.overhead, self.overhead.per_block
        odenet, environment = self.agreement["ODE-Net"], self.environment
        flags = [name for name, there in environment["flags"].items() if there]
        cpu = {model: cpu_ratio(by_name["ours"], by_name["plain"]) for model, by_name in self.samples.items()}
        return [
            f"Trainer.fit beyond forward, loss, backward and optimizer: {blocks.median:.1%} of the time "
            f"({blocks.least:.1%} to {blocks.most:.1%}; blocks of {over.log_every} steps), all {len(over.turns)} steps "
            f"{over.total:.1%}; of this outside train_step {over.outside_train_step:.1%}, inside, in the median step, "
            f"{over.inside_train_step:.1%}.",
            "CPU seconds, ours / plain: " + ", ".join(f"{m} {_spread(s, '{:.2f}')}" for m, s in cpu.items()) + ".",
            f"Gradients differ by {odenet.as_timed:.1e} as timed, by {odenet.ending_on_time:.0e} when torchdiffeq ends "
            f"a step on the last time, by {odenet.same_steps:.0e} on the same fixed grid (relative; last two float64).",
            f"{environment['cpu']}, {environment['threads']} threads, {' '.join(flags)}; {environment['device']}; "
            f"torch {environment['packages']['torch']}, torchdiffeq {environment['packages']['torchdiffeq']}; "
            f"load before {environment['load_before']:.1f}.",
            "Medians over pairs taken in turn; in brackets least and most.",
        ]


def describe(device: torch.device) -> dict[str, Any]:
    """The environment of a run record, whether the processor can multiply bf16, and how busy it is."""
    try:
        known = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        known = []
    load = os.getloadavg()[0]
    capability = torch.backends.cpu.get_cpu_capability()
    flags = {name: name in known for name in FLAGS}
    return describe_environment(device) | {"flags": flags, "cpu_capability": capability, "load_before": load}


def print_rows(table: Table) -> None:
    """Print a table, at most 110 columns wide; so wide where the output is no terminal."""
    console = Console(highlight=False)
    console.width = min(console.width, 110) if console.is_terminal else 110
    console.print(table)


def print_table(findings: Findings, console: Console) -> None:
    """At most 100 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading)
    for row in findings.rows():
        table.add_row(*row)
    console.print(table)
    for note in findings.notes():
        console.print(note)


def markdown(findings: Findings) -> str:
    """The same table and notes, for a README."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *findings.rows()]
    table = "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)
    return table + "\n\n" + "\n".join(f"- {note}" for note in findings.notes()) + "\n"


def _rows_of(model: str, by_name: dict[str, list[Sample]]) -> list[tuple[str, ...]]:
    plain, rows = by_name["plain"], []
    for name, label in (("ours", "fp32"), ("ours bf16", "bf16; plain fp32")):
        ours = by_name[name]
        counts = f"{evaluations(ours):.0f} / {evaluations(plain):.0f}" if evaluations(plain) else "-"
        cells = (_milliseconds(seconds(ours)), _milliseconds(seconds(plain)), _spread(ratio(ours, plain), "{:.2f}"))
        rows.append((f"{model}, {label}", *cells, counts))
    shares = [_spread(data_share(by_name[name]), "{:.1%}") for name in ("ours", "plain")]
    return [rows[0], ("  of which data", *shares, "", ""), *rows[1:]]


def _milliseconds(spread: Spread) -> str:
    return f"{1000 * spread.median:.0f} ms" if spread.median > 0.1 else f"{1000 * spread.median:.1f} ms"


def _spread(spread: Spread, form: str) -> str:
    median, least, most = (form.format(value) for value in (spread.median, spread.least, spread.most))
    return f"{median} ({least}-{most})"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
