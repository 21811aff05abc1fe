"""`audit=`: the comparison of gradient modes as a table on the screen, a csv and a picture."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from ode_runner.analysis.audit import REPEATS, Audit, ModeResult
from ode_runner.analysis.same_steps import retakes
from ode_runner.errors import SolverFailed
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import UNMEASURED
from ode_runner.gradients.base import GradientMode
from ode_runner.plots.audit import Row, draw_audit
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, byte_count
from ode_runner.recording.pictures import save_pictures
from ode_runner.recording.record import RunStatus

HEADS = (  # errors are relative
    *("\n", "solution:\ncosine", "\nerror", "flow:\ncosine", "\nerror", "NFE for-\nward", "back-\nward", "\nsaved"),
    "\ntime",
)
OF_ANOTHER_LOSS = 0.02  # relative; below it rounding, bf16's too, explains how the losses differ


def audit(
    experiment: Experiment,
    *,
    modes: Mapping[str, GradientMode | str],
    own: str,
    reference: GradientMode,
    about: str,
    folder: Path,
) -> RunStatus:
    """Compare `modes` on one training batch of a cell; prints a table, writes `gradients.csv` and `gradients.png`.

    `own` is the mode of the command; `about` says what model and weights this is.
    """
    display = Display()
    display.headline(about, folder)
    try:
        audited = Audit(experiment, reference=reference)
    except SolverFailed as failure:
        display.say(f"{RunStatus.SOLVER_FAILED}: {failure}", style="bold red")
        return RunStatus.SOLVER_FAILED
    _introduce(audited, display)
    findings = [audited.reference_finding(), *audited.findings(modes)]
    measured = [finding for finding in findings if not finding.reason]
    _write(folder / "gradients.csv", findings)
    drawn = save_pictures(partial(_pictures, audited, measured[1:], about), folder=folder, display=display)
    display.columns(HEADS, [_cells(finding, own) for finding in measured])
    display.say(f"  * the mode of this command. Times: median of {REPEATS}, forward, loss and backward.")
    for remark in _remarks(audited, findings):
        display.say(remark)
    display.say(f"  table:   {folder / 'gradients.csv'}")
    if drawn:
        display.say(f"  picture: {folder / 'gradients.png'}")
    return RunStatus.COMPLETED


def _pictures(audited: Audit, findings: Sequence[ModeResult], about: str) -> Iterator[tuple[str, Figure]]:
    if findings:
        rows, uncertainty = [_row(finding) for finding in findings], audited.references.flow_uncertainty
        yield "gradients", draw_audit(rows, title=about, flow_uncertainty=uncertainty)


def _introduce(audited: Audit, display: Display) -> None:
    """Which gradients the columns compare with."""
    experiment, references = audited.experiment, audited.references
    solver = type(experiment.integrator.solver).__name__
    steps = "the same steps" if retakes(experiment.integrator.solver) else "its steps chosen anew"
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


def _cells(finding: ModeResult, own: str) -> list[str]:
    return [
        finding.mode + " *" * (finding.mode == own),
        _cosine(finding.solution_cosine),
        _error(finding.solution_error),
        _cosine(finding.flow_cosine),
        _error(finding.flow_error),
        *_costs(finding),
    ]


def _costs(finding: ModeResult) -> list[str]:
    if math.isnan(finding.milliseconds):  # a reference
        return ["", "", "", ""]
    ms, saved = finding.milliseconds, "" if finding.saved_bytes is None else byte_count(finding.saved_bytes)
    duration = f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1000:.3g} s"
    return [f"{finding.nfe_forward:,g}", f"{finding.nfe_backward:,g}", saved, duration]


def _error(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1e}"


def _cosine(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _remarks(audited: Audit, findings: Sequence[ModeResult]) -> list[str]:
    """What stands between the columns and their meaning, then the modes that are missing from them."""
    solution, remarks = audited.references.solution, []
    for finding in findings:
        if finding.reason:
            continue
        if not abs(finding.loss - solution.loss) <= OF_ANOTHER_LOSS * abs(solution.loss):
            remarks.append(
                f"  {finding.mode}: the loss is {finding.loss:.4g}, in double precision {solution.loss:.4g}. Where a "
                "model draws random numbers, it must draw them in one type whatever the precision."
            )
    if any(finding.saved_bytes is None for finding in findings):
        remarks.append(f"  {UNMEASURED}")
    missing = [f"  {finding.mode}: {finding.reason}" for finding in findings if finding.reason]
    return [*remarks, *(["not admissible:"] if missing else []), *missing]


def _write(path: Path, findings: Sequence[ModeResult]) -> None:
    """A line for each mode, and one for the solution's own gradient in double precision; empty where not measured."""
    rows = [list(asdict(finding).values()) for finding in findings]
    measured = [[None if isinstance(value, float) and math.isnan(value) else value for value in row] for row in rows]
    write_csv(path, list(asdict(findings[0])), measured)


def _row(finding: ModeResult) -> Row:
    return Row(
        name=finding.mode,
        solution_error=finding.solution_error,
        flow_error=finding.flow_error,
        nfe=(finding.nfe_forward, finding.nfe_backward),
        saved_bytes=math.nan if finding.saved_bytes is None else finding.saved_bytes,
        milliseconds=finding.milliseconds,
    )
