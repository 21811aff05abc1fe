"""`audit=`: the comparison of gradient modes as a table on the screen, a csv and a picture."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ode_runner.analysis.audit import REPEATS, Audit, ModeResult
from ode_runner.analysis.same_steps import recomputes_steps
from ode_runner.errors import SolverFailed
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import UNMEASURED
from ode_runner.gradients.base import GradientMode
from ode_runner.plots.audit import Row, draw_audit
from ode_runner.plots.figure_types import Figure
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, byte_count
from ode_runner.recording.pictures import save_pictures
from ode_runner.recording.record import RunStatus

HEADS = (  # errors are relative
    *("\n", "solution:\ncosine", "\nerror", "flow:\ncosine", "\nerror", "NFE for-\nward", "back-\nward", "\nsaved"),
    "\ntime",
)
FAR_FROM_FLOW = 0.1  # error of the numerical solution's own gradient, above which a sentence explains it
LOSS_TOLERANCE = 0.02  # relative; smaller differences of losses are explained by rounding, even in bf16


def audit(
    experiment: Experiment,
    *,
    modes: Mapping[str, GradientMode | str],
    own: str,
    reference: GradientMode,
    about: str,
    folder: Path,
) -> RunStatus:
    """Compare gradient modes on one training batch; prints a table, writes `gradients.csv` and `gradients.png`.

    Args:
        experiment: model, task and solver.
        modes: the modes to compare, by name; a text instead of a mode says why it is not admissible.
        own: the name of the mode that the command has chosen.
        reference: the mode that computes the reference gradients.
        about: model and weights in words, for the headline and the picture.
        folder: where to write.
    """
    display = Display()
    display.headline(about, folder)
    try:
        audited = Audit(experiment, reference=reference)
    except SolverFailed as failure:
        display.say(f"{RunStatus.SOLVER_FAILED}: {failure}", style="bold red")
        return RunStatus.SOLVER_FAILED
    _introduce(audited, display)
    results = [audited.reference_result(), *audited.results(modes)]
    measured = [result for result in results if not result.reason]
    _write(folder / "gradients.csv", results)
    drawn = save_pictures(partial(_pictures, audited, measured[1:], about), folder=folder, display=display)
    display.columns(HEADS, [_cells(result, own) for result in measured])
    display.say(f"  * the mode of this command. Times: median of {REPEATS}, forward, loss and backward.")
    for remark in _remarks(audited, results):
        display.say(remark)
    display.say(f"  table:   {folder / 'gradients.csv'}")
    if drawn:
        display.say(f"  picture: {folder / 'gradients.png'}")
    return RunStatus.COMPLETED


def _pictures(audited: Audit, results: Sequence[ModeResult], about: str) -> Iterator[tuple[str, Figure]]:
    if results:
        rows, uncertainty = [_row(result) for result in results], audited.references.flow_uncertainty
        yield "gradients", draw_audit(rows, title=about, flow_uncertainty=uncertainty)


def _introduce(audited: Audit, display: Display) -> None:
    """Print which reference gradients the columns compare with."""
    experiment, references = audited.experiment, audited.references
    solver = experiment.integrator.solver.shown_name
    steps = "the same steps" if recomputes_steps(experiment.integrator.solver) else "its steps chosen anew"
    display.say(
        f"one training batch of {len(audited.batch.inputs):,}, {len(references.solution.vector):,} parameters, "
        f"{experiment.options.precision}. References, both by backpropagation in double precision:"
    )
    display.say(f"  solution: {solver}, {steps}. What an exact mode computes, up to rounding.")
    if references.flow is None:
        display.say(f"  flow:     could not be computed. {references.flow_missing}", style="yellow")
        return
    display.say(
        f"  flow:     {solver} refined twice, {references.flow.forward.evaluations:,} evaluations; "
        f"once and twice refined differ by {references.flow_uncertainty:.1g}."
    )


def _cells(result: ModeResult, own: str) -> list[str]:
    return [
        result.mode + " *" * (result.mode == own),
        _cosine(result.solution_cosine),
        _error(result.solution_error),
        _cosine(result.flow_cosine),
        _error(result.flow_error),
        *_costs(result),
    ]


def _costs(result: ModeResult) -> list[str]:
    if math.isnan(result.milliseconds):  # a reference
        return ["", "", "", ""]
    ms, saved = result.milliseconds, "" if result.saved_bytes is None else byte_count(result.saved_bytes)
    duration = f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1000:.3g} s"
    return [f"{result.nfe_forward:,g}", f"{result.nfe_backward:,g}", saved, duration]


def _error(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1e}"


def _cosine(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _remarks(audited: Audit, results: Sequence[ModeResult]) -> list[str]:
    """Sentences on losses that differ and on what was not measured, then the modes that are not admissible."""
    solution, remarks = audited.references.solution, []
    if results[0].flow_error > FAR_FROM_FLOW:
        remarks.append(
            f"  The gradients of solution and flow differ by {results[0].flow_error:.0%} in every mode: steps are too "
            f"long, or the loss, {solution.loss:.2g}, is so near its minimum that the solver's error is what is left."
        )
    for result in results:
        if result.reason:
            continue
        if not abs(result.loss - solution.loss) <= LOSS_TOLERANCE * abs(solution.loss):
            remarks.append(
                f"  {result.mode}: the loss is {result.loss:.4g}, in double precision {solution.loss:.4g}. Where a "
                "model draws random numbers, it must draw them in one type whatever the precision."
            )
    if any(result.saved_bytes is None for result in results):
        remarks.append(f"  {UNMEASURED}")
    missing = [f"  {result.mode}: {result.reason}" for result in results if result.reason]
    return [*remarks, *(["not admissible:"] if missing else []), *missing]


def _write(path: Path, results: Sequence[ModeResult]) -> None:
    """Write a row for each mode and one for the reference of the solution; fields are empty if not measured."""
    rows = [list(asdict(result).values()) for result in results]
    measured = [[None if isinstance(value, float) and math.isnan(value) else value for value in row] for row in rows]
    write_csv(path, list(asdict(results[0])), measured)


def _row(result: ModeResult) -> Row:
    return Row(
        name=result.mode,
        solution_error=result.solution_error,
        flow_error=result.flow_error,
        nfe=(result.nfe_forward, result.nfe_backward),
        saved_bytes=math.nan if result.saved_bytes is None else result.saved_bytes,
        milliseconds=result.milliseconds,
    )
