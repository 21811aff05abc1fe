"""Which rows were tested on data of the same distribution: only those are ranked against each other."""

from collections.abc import Hashable, Sequence

from ode_runner.recording.record import UNUSED
from ode_runner.report.rows import Row

OF_TRAINING = {"train", "validation", "crop_padding", "kl_epochs"}  # options that leave the test split as it is
OF_SAMPLING = {"path", "start_time", "end_time", "clock"}  # how samples by the true field are solved
PLACES = {"data_dir"}  # where the files of a known data set are
NOT_OF_DATA = {f"task.{option}" for option in OF_TRAINING | OF_SAMPLING | PLACES}


def data_groups(rows: Sequence[Row]) -> list[Hashable]:
    """For each row, its task and the options of its data that differ among the rows: equal for the same data.

    The seed is none of these options: it draws other data from the same distribution. The sizes of training and
    validation are none either, because methods may be compared by how much data they need. The size of the test split
    is one, because distances between sets of samples depend on it.
    """
    differing = _differing(rows)
    return [(row.task, *(_values(row, name) for name in differing.get(row.task, []))) for row in rows]


def of_different_data(rows: Sequence[Row]) -> list[str]:
    """A sentence for each task whose rows differ in their data."""
    return [
        f"rows of {f'task={task}' if task else 'several tasks'} differ in {', '.join(names)}, and so in their data: "
        "they are ranked only among those with the same data."
        for task, names in _differing(rows).items()
        if names
    ]


def _differing(rows: Sequence[Row]) -> dict[str, list[str]]:
    """By task, the options of the data with different values among the rows that have them."""
    return {task: _of_task([row for row in rows if row.task == task]) for task in dict.fromkeys(r.task for r in rows)}


def _of_task(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run.options)
    of_data = [name for name in names if name.startswith("task.") and name not in NOT_OF_DATA]
    unused = frozenset([repr(UNUSED)])
    return [name for name in of_data if len({_values(row, name) for row in rows} - {unused}) > 1]


def _values(row: Row, name: str) -> frozenset[str]:
    return frozenset(repr(run.options.get(name, UNUSED)) for run in row.runs)
