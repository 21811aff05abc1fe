"""Many runs as one table."""

import os
from pathlib import Path

import pandas as pd

from ode_runner.report.runs import find_runs


def runs(*folders: str | os.PathLike[str]) -> pd.DataFrame:
    """All runs below the folders (default: `outputs`), one row each, whatever their status.

    Columns: `folder`, `status`, `seed`, every option in use by its dotted name, and every final metric by its name
    (`test/accuracy`, `cost/train_seconds`).

    Raises:
        RefusedInput: a folder does not exist or holds no run.
    """
    found = find_runs([Path(folder) for folder in folders or ("outputs",)])
    return pd.DataFrame(
        {
            "folder": str(run.folder),
            "status": str(run.record.status),
            "seed": run.record.seed,
            **run.options,
            **run.measurements,
        }
        for run in found.runs
    )
