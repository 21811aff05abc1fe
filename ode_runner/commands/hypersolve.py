"""`hypersolve=`: fits a correction to a solver's steps along a trained field, and says whether it pays."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ode_runner.commands.trained_run import TrainedRun
from ode_runner.errors import IncompatibleChoice, as_typed, check_whole
from ode_runner.experiment.experiment import Experiment
from ode_runner.hypersolving.comparison import COMPARED, FITTED, Compared, compare, cost_of, stretched
from ode_runner.hypersolving.corrections import StateCorrection
from ode_runner.hypersolving.fit import fitted, share_left
from ode_runner.hypersolving.solves import Solves
from ode_runner.hypersolving.storage import Fitted, load_correction, save_correction
from ode_runner.models.base import Numerics
from ode_runner.models.events import has_events
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.hypersolver import draw_hypersolver
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, shown
from ode_runner.recording.environment import describe_environment
from ode_runner.recording.pictures import save_pictures
from ode_runner.recording.record import RunRecord, RunStatus, utc_now
from ode_runner.recording.strict_json import to_json
from ode_runner.solvers.base import Solver
from ode_runner.solvers.hypersolver import Hypersolver
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta

MOST = {"correction_width": 4096, "correction_steps": 1_000_000, "correction_samples": 1_000_000}
HEADER = (
    *("num_steps", "step_size", "solver_nfe", "solver_error"),
    *("corrected_nfe", "corrected_error", "rk4_nfe", "rk4_error"),
)


def hypersolve(trained: TrainedRun, *, solver: str, options: dict[str, Any], folder: Path) -> RunStatus:
    """Fit a correction to the steps of a run's solver, and compare it with the solver alone and with `rk4`.

    Solves are in double precision. The correction is fitted to the solves of training samples and compared on those of
    test samples. Prints a table, and writes `correction.pt`, `hypersolver.csv`, `hypersolver.json` and a picture.

    Args:
        trained: the run.
        solver: the name of the solver.
        options: `correction_width`, `correction_steps` and `correction_samples`, as typed.
        folder: where to write.

    Raises:
        RefusedInput: an option is out of range.
        IncompatibleChoice: the solver's steps cannot be corrected, or the model's solves are not of states alone.
    """
    _check(options)
    experiment, display = trained.experiment(), Display()
    base = _checked(experiment, experiment.integrator.solver)
    choices, seed = trained.record.choices, trained.record.seed
    about = f"{choices['task']} · {choices['model']}"
    display.headline(f"{about} · {solver} · seed {seed}", folder)
    display.after_training("solving samples accurately, and fitting the correction")
    solves = Solves(experiment=experiment.fine(), samples=options["correction_samples"])
    accurate = solves.accurate(base, COMPARED[-1])
    correction, told = _fitted(solves, base, accurate, options, seed=seed)
    display.say(told)
    path = save_correction(folder, correction, Fitted.of_run(trained.folder, trained.record.training, solver))
    display.after_training("comparing solvers")
    rows = list(compare(solves, base, correction.double(), solves.states(accurate)))
    display.stop()
    verdict = _verdict(next(row for row in rows if row.steps == base), solver)
    _write(folder, rows, {"run": str(trained.folder), "solver": solver, "fit": told, "verdict": verdict}, experiment)
    save_pictures(partial(_pictures, rows, base, solver, about), folder=folder, display=display)
    _print(rows, base, solver, experiment.task.objective, display)
    display.say(verdict, style="bold")
    display.say(f"  table, picture: {folder}")
    display.say(f"  use it: ode-run evaluate={trained.folder} solver={solver} {_steps(base)} correction={path}")
    return RunStatus.COMPLETED


def _check(options: dict[str, Any]) -> None:
    for name, most in MOST.items():
        check_whole(options[name], f"{name}={as_typed(options[name])}", least=1, most=most)


def corrected(experiment: Experiment, path: Path | None, *, run: Path, solver: str) -> Experiment:
    """The experiment with the correction in `path`, if any, on every step of its solver, which is named `solver`.

    Raises:
        RefusedInput: there is no such file, or its correction is not of this run and solver.
    """
    if path is None:
        return experiment
    record = RunRecord.read(run)
    assert record is not None
    correction = load_correction(path, Fitted.of_run(run, record.training, solver))
    base = _checked(experiment, experiment.integrator.solver)
    hypersolver = Hypersolver.around(base, correction.to(experiment.device, experiment.dtype).requires_grad_(False))
    return replace(experiment, integrator=replace(experiment.integrator, solver=hypersolver))


def _checked(experiment: Experiment, solver: Solver) -> FixedStepRungeKutta:
    """The solver, if its steps can be corrected for this model."""
    if experiment.model.numerics is Numerics.NONE:
        raise IncompatibleChoice("hypersolve= corrects the steps of a solver, and this model solves nothing.")
    if has_events(type(experiment.task), type(experiment.model)):
        raise IncompatibleChoice("hypersolve= corrects steps between two times, and these solves end at events.")
    if not isinstance(solver, FixedStepRungeKutta):
        raise IncompatibleChoice(
            f"hypersolve= corrects the steps of {FixedStepRungeKutta.in_words}, and {solver.shown_name} is "
            f"{solver.kind}. Add solver=heun solver.num_steps=10, say."
        )
    return solver


def _fitted(
    solves: Solves, base: FixedStepRungeKutta, accurate: Solver, options: dict[str, Any], *, seed: int
) -> tuple[StateCorrection, str]:
    """The correction, with its cost, and a sentence on both."""
    data, field = solves.residuals(list(stretched(base, FITTED)), accurate)
    correction = fitted(data, width=options["correction_width"], steps=options["correction_steps"], seed=seed)
    correction.cost = cost_of(correction, field, data)
    return correction, (
        f"fitted to the local errors of {len(data.t):,} steps, of which {share_left(correction, data):.2%} is left; "
        f"each correction costs {correction.cost:.3g} evaluations of the field"
    )


def _print(rows: Sequence[Compared], base: FixedStepRungeKutta, solver: str, metric: str, display: Display) -> None:
    heads = ["\nsteps", f"{solver}:\nNFE", "\nerror", "corrected:\nNFE", "\nerror"]
    with_rk4, measured = any(row.rk4 for row in rows), rows[0].base.objective is not None
    heads += ["rk4 instead:\nNFE", "\nerror"] if with_rk4 else []
    heads += [f"{metric}:\n{solver}", "\ncorrected"] if measured else []
    cells = []
    for row in rows:
        line = [_steps(row.steps) + " *" * (row.steps == base)]
        for one in (row.base, row.corrected, *([row.rk4] if with_rk4 else [])):
            line += ["", ""] if one is None else [f"{round(one.nfe, 1):,g}", f"{one.error:.1e}"]
        metrics = (one.objective for one in (row.base, row.corrected) if one.objective is not None)
        cells.append([*line, *(shown(metric, value) for value in metrics)])
    display.columns(heads, cells)
    display.say(
        "  * fitted to these steps, half and twice as many. Errors: mean distance from accurate states, test samples. "
        f"NFE per batch{', of rk4 at most those of the corrected steps' if with_rk4 else ''}."
    )


def _verdict(row: Compared, solver: str) -> str:
    """Whether the correction pays with the steps that it was fitted to."""
    base, corrected, rk4 = row.base, row.corrected, row.rk4
    if not corrected.error < base.error:
        return f"It does not pay: corrected steps of {solver} have no smaller error."
    gain, price = base.error / corrected.error, corrected.nfe / base.nfe
    said = f"the correction divides the error of {solver} by {gain:.3g}, for {price:.3g} times the evaluations"
    if rk4 is None:
        return f"{said[0].upper()}{said[1:]}, which are too few for a step of rk4."
    pays = "It pays" if corrected.error < rk4.error else "It does not pay"
    return f"{pays}: {said}; rk4 with {round(rk4.nfe, 1):,g} evaluations has {rk4.error:.1e}."


def _steps(solver: FixedStepRungeKutta) -> str:
    """The option that says how many steps a solver takes."""
    if solver.num_steps is not None:
        return f"solver.num_steps={solver.num_steps}"
    return f"solver.num_steps=null solver.step_size={solver.step_size:g}"


def _write(folder: Path, rows: Sequence[Compared], about: dict[str, str], experiment: Experiment) -> None:
    table = [[row.steps.num_steps, row.steps.step_size, *_numbers(row)] for row in rows]
    write_csv(folder / "hypersolver.csv", HEADER, table)
    content = about | {
        "rows": [dict(zip(HEADER, line, strict=True)) for line in table],
        "environment": describe_environment(experiment.device),
        "finished": utc_now(),
    }
    atomic_write(folder / "hypersolver.json", lambda file: file.write(to_json(content, indent=2).encode()))


def _numbers(row: Compared) -> Iterator[float | None]:
    for one in (row.base, row.corrected, row.rk4):
        yield from (None, None) if one is None else (one.nfe, one.error)


def _pictures(
    rows: Sequence[Compared], base: FixedStepRungeKutta, solver: str, about: str
) -> Iterator[tuple[str, Figure]]:
    curves = {solver: [row.base for row in rows], f"{solver}, corrected": [row.corrected for row in rows]}
    curves["rk4 instead"] = [row.rk4 for row in rows if row.rk4 is not None]
    points = {label: [(one.nfe, one.error) for one in measured] for label, measured in curves.items() if measured}
    fitted_to = next(row.corrected for row in rows if row.steps == base)
    yield (
        "hypersolver",
        draw_hypersolver(
            points, fitted_to=(fitted_to.nfe, fitted_to.error), title=f"{about}: {solver} with and without a correction"
        ),
    )
