"""Reading of tables from csv, parquet or npz files."""

import csv
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from ode_runner.errors import RefusedInput, as_typed, is_number

COMMENT = "#"
TOO_MANY = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")  # what pandas says of a row with more cells
ONE_HEAD_A_CELL = "Write a name above each column, and quotation marks around a cell that has the separator in it."
UNNAMED = re.compile(r"Unnamed: (\d+)(\.\d+)?")  # what pandas calls a column without a name, and one more of that name
MOST_NAMED = 6  # columns in a line to type
DECIMAL = re.compile(r"[-+]?\d*,\d*(?:[eE][-+]?\d+)?")


def read_table(path: Path) -> tuple[pd.DataFrame, int]:
    """The cells of a file, and the number of the first row below its header."""
    try:
        match path.suffix.lower():
            case ".npz":
                return _read_npz(path), 1
            case ".parquet" | ".pq":
                return _read_parquet(path), 1
            case _:
                return _read_csv(path)
    except RefusedInput:  # it is also a ValueError
        raise
    except ImportError as error:
        raise RefusedInput(
            f"{path}: parquet files need pyarrow. Install it: pip install 'ode-run[parquet]'."
        ) from error
    except UnicodeDecodeError as error:
        raise RefusedInput(
            f"{path} is no text in UTF-8 (byte {error.start}). Save it as such: in a spreadsheet, as CSV UTF-8."
        ) from error
    except (OSError, ValueError, BadZipFile, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise RefusedInput(f"{path} cannot be read as a table ({reason}).") from error


def check_names(taken: Iterable[str], path: Path, *, role: str, instead: str) -> None:
    """Raises RefusedInput if a column that has this role by default has no name.

    Args:
        taken: names of the columns that have the role by default.
        path: of the file.
        role: the role in words, as the end of "would be ...".
        instead: options that choose columns; "": there are none.
    """
    for name in taken:
        if said := UNNAMED.fullmatch(name):
            or_else = f", or say which columns to use: {instead}" if instead else ""
            raise RefusedInput(
                f"{path}: column {int(said[1]) + 1} has no name, like the row numbers that pandas writes, and would be "
                f"{role}. Give it a name{or_else}."
            )


def with_names(names: Iterable[str]) -> list[str]:
    """The names without those that pandas gives to columns without a name."""
    return [name for name in names if not UNNAMED.fullmatch(name)]


def list_option(option: str, names: Sequence[str]) -> str:
    """An option that takes columns, as it is typed in a shell."""
    return f"'{option}={as_typed(list(names)) if len(names) <= MOST_NAMED else '[...]'}'"


def _read_parquet(path: Path) -> pd.DataFrame:
    """The columns of a frame, preceded by its index unless that is the default row numbers."""
    table = pd.read_parquet(path)
    index = table.index
    if list(index.names) == [None] and index.equals(pd.RangeIndex(len(table))):
        return table
    names = [f"Unnamed: {i}" if name is None else name for i, name in enumerate(index.names)]
    return table.reset_index(names=names)


def _read_csv(path: Path) -> tuple[pd.DataFrame, int]:
    """The cells as text. Lines above the header that begin with # are comments."""
    with path.open(encoding="utf-8-sig") as file:
        above = 0
        while (line := file.readline()).startswith(COMMENT):
            above += 1
    separator = next((mark for mark in ("\t", ";") if mark in line and "," not in line), ",")
    heads = [cell.strip(' "\n') for cell in re.split("[,;\t]", line)]
    table = _cells(path, separator, above)
    table.columns = [str(name).strip() for name in table.columns]
    table = table[[name for name in table.columns if not UNNAMED.fullmatch(name) or table[name].str.strip().any()]]
    if all(map(is_number, heads)):
        raise RefusedInput(
            f"{path}, row {above + 1}: numbers alone ({', '.join(heads[:3])}), where the names of the columns belong. "
            "Write a row of names above it, or in its place if these only number the columns."
        )
    _check_different(line, separator, path, row=above + 1)
    if separator == ";":  # then a comma in a number is the decimal point; names keep theirs
        table = table.map(lambda cell: cell.replace(",", ".") if DECIMAL.fullmatch(cell.strip()) else cell)
    return table.fillna(""), above + 2


def _check_different(line: str, separator: str, path: Path, *, row: int) -> None:
    """Raises RefusedInput if two columns of this header have one name: pandas would call the second x.1."""
    heads = [head.strip() for head in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    for head in heads:
        if head and heads.count(head) > 1:
            raise RefusedInput(f"{path}, row {row}: two columns are named '{head}'. Give each a name of its own.")


def _cells(path: Path, separator: str, above: int) -> pd.DataFrame:
    """The cells below `above` lines. Rows longer than the header are refused: pandas would shift its names."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path, sep=separator, skiprows=above, dtype=str, keep_default_na=False, skip_blank_lines=False,
                encoding="utf-8-sig", skipinitialspace=True, index_col=False,  # no cells beside heads
            )  # fmt: skip
    except pd.errors.ParserWarning:
        raise RefusedInput(
            f"{path}: rows have more cells than there are heads. {ONE_HEAD_A_CELL} Where rows end with the "
            "separator, let the heads end with it, too."
        ) from None
    except pd.errors.ParserError as error:
        if (said := TOO_MANY.search(str(error))) is None:
            raise
        heads, row, cells = said.groups()
        raise RefusedInput(f"{path}, row {row}: {cells} cells, and {heads} heads. {ONE_HEAD_A_CELL}") from None


def _read_npz(path: Path) -> pd.DataFrame:
    """Vectors of equal length under their names; the columns of a matrix have its name and their index."""
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
    """The names in a file's header.

    Raises:
        RefusedInput: the file cannot be read.
    """
    return [str(name) for name in read_table(path)[0].columns]
