"""The compiled solves of an integrator: with gradients and without, whole ones and those from break to break."""

from typing import final

import torch

from ode_runner.compiling.solves import CompiledPiece, CompiledSolve, CompiledSolves
from ode_runner.problem import Problem


@final
class IntegratorSolves:
    """Compiled solves for problems that were compiled before, and for others like them."""

    def __init__(self) -> None:
        self.with_gradients, self.without = CompiledSolves[CompiledSolve](), CompiledSolves[CompiledSolve]()
        self.pieces, self.pieces_without = CompiledSolves[CompiledPiece](), CompiledSolves[CompiledPiece]()

    def add_piece(self, problem: Problem, piece: CompiledPiece, *, always: bool) -> None:
        """From now on, such problems are solved by `piece`, from break to break; `always`: without gradients, too."""
        self.pieces.add(problem, piece)
        if always:
            self.pieces_without.add(problem, piece)

    def find(self, problem: Problem) -> CompiledPiece | None:
        """The compiled solve for problems like this one, called from break to break; None if there is none."""
        graph = torch.is_grad_enabled()
        if problem.event is not None:
            return None
        if problem.breaks:
            return (self.pieces if graph else self.pieces_without).find(problem)
        whole = (self.with_gradients if graph else self.without).find(problem)
        return None if whole is None else lambda _, problem: whole(problem)

    def clear(self) -> None:
        """Forget all."""
        self.with_gradients.clear()
        self.pieces.clear()
        self.forget_evaluations()

    def forget_evaluations(self) -> None:
        """Forget those without gradients."""
        self.without.clear()
        self.pieces_without.clear()

    def remark(self) -> str:
        """A sentence for the user if some are not used, each once; otherwise ""."""
        every = (self.with_gradients, self.pieces, self.without, self.pieces_without)
        return next(filter(None, (solves.remark() for solves in every)), "")
