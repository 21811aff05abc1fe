"""check.json: what the checks on a GPU came to, in one file."""

import argparse
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ode_runner.recording.environment import describe_environment


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.summary", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where runs are")
    options = parser.parse_args()
    out, device = options.out, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(device),
        **{f"{name}_tests": _tests(out / f"{name}.xml") for name in ("captured", "against_cpu", "quick")},
        **{name: _json(out / f"{name}.json") for name in ("profile", "border", "sampling")},
        **{name: _json(options.work / name / "record.json") for name in ("epoch", "generation", "table1")},
        **{f"{name}_curve": _rows(options.work / name / "metrics.jsonl") for name in ("epoch", "generation", "table1")},
    }
    (out / "check.json").write_text(json.dumps(found, indent=2, default=str), encoding="utf-8")
    print(f"check: {out / 'check.json'}")


def _tests(path: Path) -> dict[str, Any] | None:
    """Counts, and the names of the tests that failed; None if they never came to an end."""
    if not path.is_file():
        return None
    suite = next(ElementTree.parse(path).iter("testsuite"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")} | {"failed": failed}


def _rows(path: Path) -> list[Any]:
    """Of a run's metrics, those of evaluations."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [row for row in map(json.loads, lines) if any(name.startswith("eval/") for name in row)]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


if __name__ == "__main__":
    main()
