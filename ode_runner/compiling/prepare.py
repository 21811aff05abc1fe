"""Compilation of what a run is about to do many times."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ode_runner.cell import Cell
from ode_runner.errors import CannotCompile, IncompatibleChoice, SolverFailed
from ode_runner.field import CountedField, Ledger, VectorField
from ode_runner.models.base import Numerics
from ode_runner.tasks.base import Split
from ode_runner.types import State, Times, Trajectory

FEWEST_STEPS = 10_000  # of training that repay the compiler's half minute
LARGEST = 1_000_000  # multiplications and additions in an evaluation; beyond, arithmetic is what takes the time


def compile_solves(cell: Cell, *, steps: int, processes: int) -> str:
    """Compile the solves of a training step, if the run asks for it; returns what a person should know of it.

    Whether `auto` does depends on the configuration alone, so that a run that is resumed goes on as it began.

    Raises:
        IncompatibleChoice: trainer.compile=on, and there is something that cannot be.
    """
    wish, begun = cell.options.compile, time.perf_counter()
    if wish == "off" or (wish == "auto" and steps < FEWEST_STEPS):
        return ""
    try:
        _demand_possible(cell, processes)
        with _as_in_training(cell.model):
            solves = asked_for(cell)
            if wish == "auto" and not all(_small(field, y0, ts) for field, y0, ts in solves):
                return ""
            for field, y0, ts in solves:
                _compile(cell, field, y0, ts)
    except CannotCompile as reason:
        if wish == "on":
            raise IncompatibleChoice(f"trainer.compile=on: {reason}. Use trainer.compile=off.") from reason
        return f"not compiled: {reason}"
    return f"steps compiled in {time.perf_counter() - begun:.1f} s"


def asked_for(cell: Cell) -> list[tuple[VectorField, State, Times]]:
    """What the model, in the mode it is in, wants solved for the first batch of training; no field is evaluated."""
    asked: list[tuple[VectorField, State, Times]] = []

    def note(field: VectorField, y0: State, ts: Times) -> Trajectory:
        asked.append((field, y0.to(ts.dtype), ts))
        return torch.stack([y0] * len(ts))

    with torch.no_grad():
        batch = next(cell.task.batches(Split.TRAIN, batch_size=cell.options.batch_size, epoch=0)).to(cell.dtype)
        cell.model(batch.inputs, batch.ts, note)
    return asked


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """In the mode of training, in which a model may ask for other solves; random numbers and buffers stay as they are.

    Otherwise a run that is resumed would go on from others than the run in one go.
    """
    kept = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]):
        model.train()
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in zip(model.buffers(), kept, strict=True):
                    buffer.copy_(before)


def _demand_possible(cell: Cell, processes: int) -> None:
    if cell.model.numerics is Numerics.NONE:
        raise CannotCompile("the model solves nothing")
    if cell.device.type != "cpu":
        raise CannotCompile(f"steps are compiled for trainer.device=cpu only, and this is {cell.device.type}")
    if cell.integrator.field_dtype is not None:
        raise CannotCompile("compiled steps are of trainer.precision=fp32 or fp64")
    if processes > 1:
        raise CannotCompile("compiled steps are those of one process")


def _small(field: VectorField, y0: State, ts: Times) -> bool:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        field(ts[0], y0)
    return counter.get_total_flops() <= LARGEST


def _compile(cell: Cell, field: VectorField, y0: State, ts: Times) -> None:
    """The way back too, which is compiled when it is first taken."""
    if not any(field is module for module in cell.model.modules()):
        raise CannotCompile("the model makes its field anew for every solve")
    solve = cell.integrator.compile(field, y0)
    with torch.enable_grad(), suppress(SolverFailed):  # which training will meet as well, and keep the evidence of
        ys = solve(CountedField(field, Ledger()), y0, ts).ys
        torch.autograd.grad(ys.sum(), [p for p in field.parameters() if p.requires_grad], allow_unused=True)
