"""Tables as they stand in a file: csv, parquet or npz."""

import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from ode_runner.errors import RefusedInput

COMMENT = "#"
DECIMAL = re.compile(r"[-+]?\d*,\d*(?:[eE][-+]?\d+)?")


def read_table(path: Path) -> tuple[pd.DataFrame, int]:
    """The cells of a file, and the number of its first row below the heads."""
    try:
        match path.suffix.lower():
            case ".npz":
                return _read_npz(path), 1
            case ".parquet" | ".pq":
                return pd.read_parquet(path), 1
            case _:
                return _read_csv(path)
    except RefusedInput:  # which is a ValueError, too
        raise
    except ImportError as error:
        raise RefusedInput(
            f"{path}: parquet files need pyarrow. Install it: pip install 'ode-run[parquet]'."
        ) from error
    except (OSError, ValueError, BadZipFile, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise RefusedInput(f"{path} cannot be read as a table ({reason}).") from error


def _read_csv(path: Path) -> tuple[pd.DataFrame, int]:
    """Cells as text. Lines above the heads that begin with # are comments."""
    with path.open(encoding="utf-8-sig") as file:
        above = 0
        while (line := file.readline()).startswith(COMMENT):
            above += 1
    separator = next((mark for mark in ("\t", ";") if mark in line and "," not in line), ",")
    table = pd.read_csv(
        path, sep=separator, skiprows=above, dtype=str, keep_default_na=False, skip_blank_lines=False,
        encoding="utf-8-sig", skipinitialspace=True,
    )  # fmt: skip
    table.columns = [str(name).strip() for name in table.columns]
    heads = [cell.strip(' "\n') for cell in re.split("[,;\t]", line)]  # as they stand: pandas renames equal ones
    if all(map(_is_number, heads)):
        raise RefusedInput(
            f"{path}, row {above + 1}: numbers alone ({', '.join(heads[:3])}), where the names of the columns belong. "
            "Write a row of names above it, or in its place if these only number the columns."
        )
    if separator == ";":  # where a comma is the decimal point of numbers, and stays what it is in names
        table = table.map(lambda cell: cell.replace(",", ".") if DECIMAL.fullmatch(cell.strip()) else cell)
    return table.fillna(""), above + 2


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_npz(path: Path) -> pd.DataFrame:
    """Vectors of one length by their names; the columns of a matrix get its name and their number."""
    columns: dict[str, np.ndarray] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            array = arrays[name]
            if array.ndim == 1:
                columns[name] = array
            elif array.ndim == 2:
                columns |= {f"{name}{i}": array[:, i] for i in range(array.shape[1])}
            else:
                raise ValueError(f"the array {name} has {array.ndim} dimensions and not 1 or 2")
    return pd.DataFrame(columns)


def columns_of(path: Path) -> list[str]:
    """The heads of a file's columns.

    Raises:
        RefusedInput: it cannot be read.
    """
    return [str(name) for name in read_table(path)[0].columns]
