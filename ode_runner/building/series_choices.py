"""Which models read the rows of a series, which tasks ask about series, and which of them go together."""

from collections.abc import Mapping, Sequence

from ode_runner.batch import AnswerTimes
from ode_runner.building.members import members, naming
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.base import Model, Numerics
from ode_runner.tasks.base import Task


def check_series(
    choices: Mapping[str, str], task: type[Task], model: type[Model], options: Mapping[str, object]
) -> None:
    """Raises IncompatibleChoice if a model reads series and the task gives none, or asks at times it cannot answer.

    Args:
        choices: the choices by group, as typed.
        task: the task's class.
        model: the model's class.
        options: the task's options.
    """
    if model.of_series and not task.gives_series:
        able = naming("task", members("task"), lambda other: other.gives_series)
        raise IncompatibleChoice(
            f"model={choices['model']} reads the rows of a series to answer about it, and task={choices['task']} gives "
            f"a model no rows to read. Use {able}, or model=odenet."
        )
    if task.gives_series:
        asked = task.answer_times(options)
        check_answer_times(choices, asked, model, otherwise=_other_questions(task, model, options))


def _other_questions(task: type[Task], model: type[Model], options: Mapping[str, object]) -> list[str]:
    """The boolean options of the task, each with the value for which the model can answer at the times asked."""
    return [
        f"task.{name}={str(not value).lower()}"
        for name, value in options.items()
        if isinstance(value, bool) and task.answer_times({**options, name: not value}) in model.answer_times()
    ]


def check_answer_times(
    choices: Mapping[str, str], asked: AnswerTimes, model: type[Model], *, otherwise: Sequence[str] = ()
) -> None:
    """Raises IncompatibleChoice if a task asks about a series at times at which the model has no answer.

    `otherwise`: what to type so that the task asks at times at which the model has one.
    """
    if asked in model.answer_times():
        return

    def able(other: type[Model]) -> bool:
        return asked in other.answer_times() and other.numerics not in (Numerics.SOLVER, Numerics.EQUATION)

    raise IncompatibleChoice(
        f"task={choices['task']} asks for {asked}, and model={choices['model']} {_why_not(model)}. "
        f"Use {', or '.join([naming('model', members('model'), able), *otherwise])}."
    )


def _why_not(model: type[Model]) -> str:
    if not model.of_series:
        return "begins when all rows have been read"
    return "answers at " + " and ".join(["its end", *["each of its rows"] * model.at_every_row])
