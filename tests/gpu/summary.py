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
    out = parser.parse_args().out
    found: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "environment": describe_environment(torch.device("cuda")),
        "quick_tests": _tests(out / "quick.xml"),
        "profile": _json(out / "profile.json"),
        "epoch": _json(out / "epoch" / "record.json"),
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


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


if __name__ == "__main__":
    main()
