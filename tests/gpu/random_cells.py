"""Random cells of the product on a simulated GPU beside the CPU: the numbers of their rows and of their tests.

    python -m tests.gpu.simulated_gpu --one-generator -m tests.gpu.random_cells --seed 0 --cells 20

Every cell is run for three steps in double precision, on the CPU one operation at a time and on the GPU with a
`trainer.compile` that is drawn, too. The losses, counts and metrics are to be equal to 1e-5, `evaluate=` is to find the
run's own metrics, and a run that is stopped and goes on is to be the one that was not, to the bit. Cells that the CPU
takes more than a few seconds for are left out, so are those that need files. Exit code 1: some were not.
"""

import argparse
import json
import math
import random
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import OmegaConf

from ode_runner.build import check_possible
from ode_runner.config.help import conf_dir
from tests.composition import composition
from tests.helpers import latest, options, record_of, rows_of, run_folder, typed
from tests.resuming import assert_equal, outcome, stop_before, without_clocks

TOLERANCE = 1e-5
MOST_SECONDS = 6  # of a run on the CPU, and at most twenty times as many on the simulated GPU
RUN = ["trainer.max_steps=3", "trainer.epochs=2", "trainer.log_every=1", "trainer.save_every_seconds=0", "logger=none"]
RUN += ["trainer.batch_size=8", "trainer.eval_batch_size=1000", "trainer.precision=fp64"]
SIZES = {"train": 24, "validation": 9, "test": 10, "points": 12, "observed": 6, "window": 4, "fine": 32, "grid": 20}
SIZES |= {"samples": 20, "length": 4, "letters": 4, "symbols": 5}
MORE = ["trainer.ema=0.7", "trainer.accumulate=2", "trainer.max_grad_norm=0.5", "trainer.audit_every=2"]
MORE += ["trainer.patience=1", "trainer.compare_with=true", "schedule=cosine", "optimizer=sgd", "optimizer=lbfgs"]
MORE += ["regularizer=[kinetic,steer]", "regularizer=jacobian", "regularizer=taylor", "regularizer=spectral"]
MORE += ["diagnostics=flow", "tolerance=1e-2", "per_sample=true"]


class TooLong(Exception):
    """A run has not ended in time."""


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def draw(rng: random.Random) -> list[str]:
    """The words of a cell, which may be one that is refused."""
    task = rng.choice(options("task"))
    has = OmegaConf.load(conf_dir() / "task" / f"{task}.yaml").task
    counted = [name for name in SIZES if isinstance(has.get(name), int)]  # of files, splits are shares of their rows
    words = [f"task={task}", *(f"task.{name}={SIZES[name]}" for name in counted)]
    for group, chance in (("model", 0.85), ("solver", 0.5), ("gradient", 0.4)):
        if rng.random() < chance:
            words.append(f"{group}={rng.choice(options(group))}")
    return [*words, *rng.sample(MORE, rng.choice((0, 1, 2))), f"seed={rng.choice((0, 1, 5))}"]


def possible(words: Sequence[str]) -> bool:
    """Whether there is such a cell."""
    try:
        cfg = composition(*words)
        check_possible(cfg, cfg.hydra.runtime.choices)
    except Exception:  # of Hydra, OmegaConf and ours: an option that a choice does not have, a file that is missing
        return False
    return True


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same number to the tolerance, nor nothing on both sides."""

    def same(a: Any, b: Any) -> bool:
        if not isinstance(a, float) or not isinstance(b, float):
            return bool(a == b)
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE / 100) or (math.isnan(a) and math.isnan(b))

    ours, theirs = ({k: v for k, v in without_clocks(dict(m)).items() if "memory" not in k} for m in (ours, theirs))
    return {k: (ours.get(k), theirs.get(k)) for k in ours | theirs if not same(ours.get(k), theirs.get(k))}


def compare(words: Sequence[str], compiled: str, place: Path) -> str | None:
    """What is wrong with a cell on the GPU, "" if nothing is; None if the CPU does not take it or takes too long."""
    cpu, gpu = place / "cpu", place / "gpu"
    for folder in (cpu, gpu):
        folder.mkdir()
    on_gpu = [*words, "trainer.device=cuda", f"trainer.compile={compiled}"]
    try:
        with _limit(MOST_SECONDS):
            ended = typed(*words, "trainer.device=cpu", "trainer.compile=off", cwd=cpu)
    except TooLong:
        return None
    if ended.returncode != 0:
        return None
    with _limit(20 * MOST_SECONDS):
        ended = typed(*on_gpu, cwd=gpu)
        if ended.returncode == 2 and "trainer.compile=on" in ended.stderr:  # refused by name
            on_gpu[-1] = "trainer.compile=auto"
            ended = typed(*on_gpu, cwd=gpu)
    if ended.returncode != 0:
        return f"exit code {ended.returncode}: {ended.stderr.strip() or ended.stdout[-500:]}"
    for row, other in zip(rows_of(run_folder(gpu)), rows_of(run_folder(cpu)), strict=True):
        if found := differences(row, other):
            return f"step {row.get('step')}: {found}"
    if found := differences(record_of(gpu)["metrics"], record_of(cpu)["metrics"]):
        return f"test: {found}"
    return _evaluated_again(gpu) or _resumed(on_gpu, gpu, place / "resumed")


def _evaluated_again(root: Path) -> str:
    folder = run_folder(root)
    with _limit(20 * MOST_SECONDS):
        ended = typed(f"evaluate={folder.relative_to(root)}", cwd=root)
    if ended.returncode == 2:  # says why there is nothing to evaluate
        return ""
    if ended.returncode != 0:
        return f"evaluate=: exit code {ended.returncode}: {ended.stderr.strip() or ended.stdout[-500:]}"
    [path] = folder.glob("evaluations/*/evaluation.json")
    metrics, own = json.loads(path.read_text())["metrics"], record_of(root)["metrics"]
    common = (metrics.keys() & own.keys()) - {"test/apart_from_own"}
    found = differences({k: metrics[k] for k in common}, {k: own[k] for k in common})
    return f"evaluate=: {found}" if found else ""


def _resumed(words: Sequence[str], root: Path, other: Path) -> str:
    if not (run_folder(root) / "checkpoints" / "last.pt").exists():
        return ""
    other.mkdir()
    with _limit(40 * MOST_SECONDS):
        stop_before(2, words, other)
        ended = typed(*words, cwd=other)
    try:
        assert ended.returncode == 0, ended.stderr
        assert_equal(outcome(other), outcome(root))
    except AssertionError as error:
        return f"resumed: {error}"
    return ""


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=int, default=20)
    asked = parser.parse_args()
    rng, faults, compared, too_long = random.Random(asked.seed), 0, 0, 0
    begun = time.monotonic()
    while compared < asked.cells:
        words, compiled = latest([*RUN, *draw(rng)]), rng.choice(("on", "on", "off", "auto"))
        if not possible(words):
            continue
        with tempfile.TemporaryDirectory() as place:
            try:
                found = compare(words, compiled, Path(place))
            except TooLong:
                too_long += 1
                continue
        if found is not None:
            compared, faults = compared + 1, faults + bool(found)
            typed_words = [word for word in words if word not in RUN and not word.startswith("task.")]
            line = f"compile={compiled} {shlex.join(typed_words)}"
            print(f"FAULT  {line}\n    {found}" if found else f"equal  {line}", flush=True)
    seconds = time.monotonic() - begun
    print(f"{compared} cells in {seconds:.0f} s: {faults} not equal; {too_long} took too long on the simulated GPU")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
