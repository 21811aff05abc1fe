"""`python -m tests.documentation.gallery FOLDER ...`: docs/gallery.md and its pictures, from completed runs.

A row of the gallery is of the latest completed run of its task and model that has its picture; without such a run it
keeps the text and the picture that it has.
"""

import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.stored_command import stored_overrides

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PICTURES = DOCS / "gallery.md", DOCS / "gallery"
LARGEST, ALL = 150_000, 4_000_000  # bytes of a picture, and of all
WIDTH = 900  # pixels
NOT_SHOWN = ("sweep=", "logger=", "output_dir=")  # beginnings of words that decide nothing of a result
PREFACE = """\
# Gallery

Each picture is from one run, with its command, numbers of its test, and its time on a CPU with shared cores. The page
is written from the records of these runs by `python -m tests.documentation.gallery FOLDER`.
"""
KEPT = re.compile(r"^## (?P<title>.+?)\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A system, and what is shown of it."""

    title: str
    task: str
    model: str
    picture: str  # its name in plots/
    numbers: tuple[str, ...]
    holds: str = ""  # a word of its command

    @property
    def file(self) -> str:
        return f"{self.task}-{self.model}-{self.picture}.png"


ENTRIES = (
    Entry("Two moons", "half_moons", "odenet", "flow", ("test/accuracy", "nfe/eval")),
    Entry("A ball in a shell", "annuli", "augmented", "flow", ("test/accuracy", "nfe/eval")),
    Entry(
        "A map that no flow on the line can be", "reflection", "adaptive_depth", "reflection", ("test/mse", "nfe/eval")
    ),
    Entry("Handwritten digits", "digits", "odenet", "mistakes", ("test/accuracy", "nfe/eval")),
    Entry("Predator and prey", "lotka_volterra", "odenet", "phase_portrait", ("test/rmse", "test/field_error")),
    Entry("A pendulum", "pendulum", "odenet", "phase_portrait", ("test/rmse", "test/field_error"), holds="epochs=40"),
    Entry("A stiff oscillation", "closed_form", "exact", "solution", ("test/period", "nfe/eval"), holds="vanderpol"),
    Entry("A ball that bounces", "bouncing_ball", "exact", "events", ("test/rmse", "test/event_time_error")),
    Entry("A thermostat", "thermostat", "exact", "events", ("test/rmse", "test/event_time_error")),
    Entry("Hare and lynx", "series", "odenet", "forecast", ("test/rmse_fit",), holds="hare_lynx"),
    Entry(
        "Irregular series, read and forecast", "series_forecast", "odenet", "forecast", ("test/rmse",), holds="turning"
    ),
    Entry("An area that a path encloses", "area", "exact", "series", ("test/relative_rmse",)),
    Entry("Densities in the plane", "density2d", "cnf", "density", ("test/nll", "test/mass")),
    Entry("Digits made of noise", "digits_generation", "flow_matching", "samples", ("test/frechet",)),
    Entry("An Ornstein-Uhlenbeck process", "ou", "sde", "paths", ("test/diffusion", "test/strong_error")),
    Entry("Geometric Brownian motion", "gbm", "exact", "paths", ("test/strong_error", "test/weak_error")),
    Entry("Lorenz' attractor with noise", "lorenz_sde", "latent_sde", "paths", ("test/mse",)),
    Entry("Texts out of masks", "markov_text", "exact", "unmasking", ("test/bigram_tv", "test/nll"), holds="gillespie"),
    Entry("Sorting", "sequence_sort", "ode_transformer", "positions", ("test/accuracy",)),
)


def main(folders: Sequence[str]) -> None:
    """Write the page and its pictures."""
    PICTURES.mkdir(exist_ok=True)
    kept = {found["title"]: found[0] for found in KEPT.finditer(PAGE.read_text())} if PAGE.exists() else {}
    runs = list(_runs([Path(folder) for folder in folders]))
    parts = [PREFACE, *(_written(entry, runs) or kept.get(entry.title, "") for entry in ENTRIES)]
    PAGE.write_text("\n".join(part.rstrip() + "\n" for part in parts if part), encoding="utf-8")
    total = sum(path.stat().st_size for path in PICTURES.iterdir())
    assert total < ALL, f"pictures take {total:,} bytes"


def _runs(folders: Sequence[Path]) -> Iterator[tuple[Path, RunRecord]]:
    for path in sorted({path.parent for folder in folders for path in folder.rglob("record.json")}):
        record = RunRecord.read(path)
        if record is not None and record.status is RunStatus.COMPLETED:
            yield path, record


def _written(entry: Entry, runs: Sequence[tuple[Path, RunRecord]]) -> str:
    found = [(folder, record) for folder, record in runs if _shows(entry, folder, record)]
    if not found:
        return ""
    folder, record = max(found, key=lambda run: str(run[1].finished))
    _shrink(folder / "plots" / f"{entry.picture}.png", PICTURES / entry.file)
    words = [word for word in stored_overrides(folder) if not word.startswith(NOT_SHOWN)]
    command = " ".join(["ode-run", *(f"'{word}'" if "[" in word else word for word in words)])
    minutes = record.cost["wall_seconds"] / 60
    numbers = [f"`{name}` {_number(record.metrics[name])}" for name in entry.numbers]
    told = ", ".join([*numbers, f"{minutes:.1f} minutes" if minutes >= 1 else "under a minute"])
    return f"## {entry.title}\n\n    {command}\n\n{told}\n\n![{entry.title}](gallery/{entry.file})\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _shows(entry: Entry, folder: Path, record: RunRecord) -> bool:
    choices: Mapping[str, str] = record.choices
    of_it = (choices.get("task"), choices.get("model")) == (entry.task, entry.model)
    words = stored_overrides(folder) if of_it else []
    whole = not any(word.startswith(("trainer=quick", "trainer.max_steps=")) for word in words)
    return of_it and whole and (folder / "plots" / f"{entry.picture}.png").is_file() and entry.holds in " ".join(words)


def _shrink(source: Path, target: Path) -> None:
    """The picture, no wider than WIDTH, in as many colours as fit into LARGEST bytes."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((WIDTH, 2 * WIDTH))
    for colours in (128, 64, 32, 16):
        content = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(content, format="png", optimize=True)
        if content.tell() < LARGEST:
            break
    target.write_bytes(content.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
