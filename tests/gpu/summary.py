"""check.json: what the checks on a GPU came to, in one file."""

import argparse
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LONGEST = 300  # characters of what a failed test has said
RUNS = ("epoch", "generation", "table1")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.summary", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where runs are, and in found/ what parts have left")
    options = parser.parse_args()
    work, left = options.work, options.work / "found"
    found: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": _environment(left / "environment.json"),
        "parts": _parts(left / "parts.tsv"),
        **{f"{name}_tests": _tests(left / f"{name}.xml") for name in ("new", "captured", "against_cpu", "quick")},
        **{name: _json(left / f"{name}.json") for name in ("profile", "border", "sampling", "ensembles")},
        **{name: _json(work / name / "record.json") for name in RUNS},
        "accuracy": [_json(path) for path in sorted((work / "outputs" / "sweeps" / "accuracy").rglob("record.json"))],
        **{f"{name}_curve": _rows(work / name / "metrics.jsonl") for name in RUNS},
    }
    (options.out / "check.json").write_text(json.dumps(found, indent=2, default=str), encoding="utf-8")
    print(f"check: {options.out / 'check.json'}")


def _environment(path: Path) -> Any:
    """Of the machine; kept in a file, for torch takes seconds to start."""
    if not path.is_file():
        import torch

        from ode_runner.recording.environment import describe_environment

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        path.write_text(json.dumps(describe_environment(device), default=str), encoding="utf-8")
    return _json(path)


def _parts(path: Path) -> list[dict[str, str]]:
    """How every step of the check ended: done, failed, or at its limit."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [dict(zip(("step", "ended", "status", "seconds"), line.split("\t"), strict=True)) for line in lines]


def _tests(path: Path) -> dict[str, Any] | None:
    """Counts, and the tests that failed, each with what it said; None if they never came to an end."""
    try:
        suite = next(ElementTree.parse(path).iter("testsuite"))
    except (OSError, ElementTree.ParseError, StopIteration):
        return None
    failed = {
        f"{case.get('classname')}::{case.get('name')}": (wrong.get("message") or "")[:LONGEST]
        for case in suite.iter("testcase")
        for wrong in (*case.iter("failure"), *case.iter("error"))
    }
    return {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")} | {"failed": failed}


def _rows(path: Path) -> list[Any]:
    """Of a run's metrics, those of evaluations."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [row for row in map(json.loads, filter(_whole, lines)) if any(name.startswith("eval/") for name in row)]


def _whole(line: str) -> bool:
    return line.endswith("}")  # the last one may have been cut off


def _json(path: Path) -> Any:
    """None where there is none, or half of one: a part may have been stopped while it wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None


if __name__ == "__main__":
    main()
