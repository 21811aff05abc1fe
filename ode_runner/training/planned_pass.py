"""Training passes through an adaptive solve on a GPU, each recorded as two CUDA graphs, forward and backward.

The solve follows a plan that says which step attempts are accepted, taken from earlier passes. The CPU waits once per
pass, during the backward graph, to check the plan. If the plan was wrong, the pass is repeated by single steps.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.compiling.captured_solve import CapturedSolve
from ode_runner.compiling.cuda_graph import CudaGraph, aside, check_repeated_right, nudged
from ode_runner.compiling.fused import fused
from ode_runner.compiling.planned_solve import Plan, PlannedSolve
from ode_runner.compiling.python_values import PythonValues
from ode_runner.devices.buffers import Buffers
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import CannotCompile
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.fields.ledger import Phase, Tally
from ode_runner.objectives.base import Loss
from ode_runner.training.captured_pass import (
    Numbers,
    copy_of,
    entered,
    give_gradients,
    kind_of_batch,
    left_as_it_was,
    own_gradients,
    write_batch,
)
from ode_runner.training.training_pass import TrainingPass

FEWEST_SEEN = 8  # passes with the same attempts before they become a plan: recording one takes a second
MOST_PLANS = 6  # plans of a run: each keeps in memory all that its backward pass needs
MEMORY = 16  # passes over which the fraction of repeated attempts is averaged
STEADY = 0.6  # the least such fraction for a plan to be used: a wrong plan costs a pass


@final
class AttemptHistory:
    """The attempts of the training solves so far, from which the plan of the next pass is chosen.

    It is part of a run's state, because a pass by a plan is rounded differently from one by single steps.
    """

    def __init__(self) -> None:
        self.last: Plan = ()
        self.repeated = 0.0  # moving average: how often the attempts were those of the pass before
        self.plans: list[Plan] = []
        self.refused = False  # passes by plans cannot be recorded
        self._seen = Counter[Plan]()

    def note(self, plan: Plan) -> None:
        """Note the attempts that a solve has taken."""
        self.repeated += (float(plan == self.last) - self.repeated) / MEMORY
        self.last = plan
        self._seen[plan] += 1
        if self._seen[plan] == FEWEST_SEEN and len(self.plans) < MOST_PLANS:
            self.plans.append(plan)
        if len(self.plans) == MOST_PLANS:
            self._seen.clear()  # so that checkpoints do not grow with the run

    def plan(self) -> Plan | None:
        """The plan of the next pass; None: the pass is made by single steps."""
        steady = self.repeated >= STEADY and not self.refused
        return self.last if steady and self.last in self.plans else None

    def state_dict(self) -> dict[str, Any]:
        return {
            "last": list(self.last),
            "repeated": self.repeated,
            "plans": [list(plan) for plan in self.plans],
            "refused": self.refused,
            "seen": [[list(plan), count] for plan, count in self._seen.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last, self.repeated, self.refused = tuple(state["last"]), state["repeated"], state.get("refused", False)
        self.plans = [tuple(plan) for plan in state["plans"]]
        self._seen = Counter({tuple(plan): count for plan, count in state["seen"]})


class _Forward(NamedTuple):
    """The forward half of a pass, in tensors that every replay overwrites."""

    numbers: Numbers
    noted: Tensor  # what the solve noted about its attempts, to check the plan
    tally: Tally


class _Backward(NamedTuple):
    """The backward half of a pass, in tensors that every replay overwrites."""

    gradients: list[Tensor | None]
    tally: Tally


@final
class PlannedPass:
    """The recorded pass of one kind of batch by one plan.

    Before it is used, its gradient is compared with that of an eager pass by the plan, on another batch and other
    weights than it was recorded with. Random state, weights and buffers are left as they were.

    Args:
        forward: makes the forward pass; its model is in training mode.
        solve: the only solve of the pass.
        plan: the plan of that solve.
        batch: a batch of this kind.
        fusing: parts of the model that PyTorch's compiler compiles for it.

    Raises:
        CannotCompile: something in the pass cannot be recorded or undone, or a replay gives another gradient.
    """

    def __init__(
        self, forward: ForwardPass, solve: CapturedSolve, plan: Plan, batch: Batch, *, fusing: Sequence[nn.Module] = ()
    ) -> None:
        self.experiment, self._forward, self.solve = forward.experiment, forward, solve
        self.parameters, self._batch = self.experiment.parameters(), copy_of(batch)
        self.planned = PlannedSolve(solve.steps.solver, plan)
        self._loss: Loss | None = None  # of the last forward half
        self.values_read = PythonValues(self.experiment.model)
        with left_as_it_was(self.experiment) as (random, buffers):
            write_batch(self._batch, batch, shift=1)
            with fused(fusing):
                self._forward_graph = CudaGraph(self._forward_half)
            self._forward_graph.replay()  # recording computes nothing: this fills the tensors that backward reads
            self._backward_graph = CudaGraph(self._backward_half)
            self._check_undone(random, buffers)
            self._check_right(batch)
            self._loss = None  # frees autograd's graph, which has been recorded
        self.values_read.leave_out_changed()
        noted = self._forward_graph.found.noted
        self._noted = torch.empty(noted.shape, dtype=noted.dtype, pin_memory=noted.is_cuda)
        self._read = torch.cuda.Event()

    def __call__(self, batch: Batch) -> TrainingPass | None:
        """Replay the pass with a batch of this kind; None if its solve did not go as planned."""
        write_batch(self._batch, batch)
        self._forward_graph.replay()
        self._noted.copy_(self._forward_graph.found.noted, non_blocking=True)
        self._read.record()
        self._backward_graph.replay()  # the GPU is busy with this while the CPU reads
        self._read.synchronize()
        taken = self.planned.taken(self._noted.tolist())
        if taken is None:
            return None
        found, back = self._forward_graph.found, self._backward_graph.found
        give_gradients(self.parameters, back.gradients)
        tally = replace(found.tally, smallest_step=taken.smallest_step)
        return entered(self.experiment, found.numbers, tally, back.tally, saved_bytes=None)

    def _forward_half(self) -> _Forward:
        with self.solve.following(self.planned):
            passed = self._forward(self._batch, measure_memory=False)
        if self.planned.noted is None:
            raise CannotCompile("the pass solves nothing of the kind")
        self._loss = passed.loss
        return _Forward(Numbers.of(passed, self._batch, self.experiment), self.planned.noted, passed.tally)

    def _backward_half(self) -> _Backward:
        assert self._loss is not None, "there is no forward half"
        total = self._forward.differentiated(self._loss)
        with self.experiment.integrator.ledger.phase(Phase.BACKWARD) as tally:
            gradients = torch.autograd.grad(total, self.parameters, retain_graph=True, allow_unused=True)
        return _Backward(own_gradients(gradients, self.parameters), tally)

    def _check_undone(self, random: RandomState, buffers: Buffers) -> None:
        """Raises CannotCompile if a pass has side effects, which a pass by a wrong plan would leave behind."""
        if buffers.changed() or not random.same_as(RandomState.now(self.experiment.device)):
            raise CannotCompile("a pass draws random numbers or changes buffers")

    def _check_right(self, batch: Batch) -> None:
        """Raises CannotCompile unless replays give the gradient of an eager pass by the plan."""
        write_batch(self._batch, batch)
        with nudged(self.parameters):
            self._forward_graph.replay()
            self._backward_graph.replay()
            with aside():  # on the stream of the recording: autograd runs backward on the stream of forward
                self._forward_half()
                expected = self._backward_half().gradients
            check_repeated_right(
                self._backward_graph.found.gradients, expected, self.experiment.dtype, what="its gradient"
            )


@final
class PlannedPasses:
    """The planned passes of a run, for batches of the kind of the first. Other passes are made by single steps.

    Args:
        forward: makes forward passes.
        solve: the only solve of a pass; it also takes single steps.
        history: the attempts so far; updated here.
        batch: the first batch.
        fusing: parts of the model that PyTorch's compiler compiles for them.
        say: prints a line.
    """

    def __init__(
        self,
        forward: ForwardPass,
        solve: CapturedSolve,
        history: AttemptHistory,
        batch: Batch,
        *,
        fusing: Sequence[nn.Module],
        say: Callable[[str], None],
    ) -> None:
        self.forward, self.solve, self.history, self.fusing, self.say = forward, solve, history, fusing, say
        self._kind: Hashable = kind_of_batch(batch)
        self._passes: dict[Plan, PlannedPass] = {}
        solve.note = history.note

    def __call__(self, batch: Batch, *, measure_memory: bool) -> TrainingPass | None:
        """Replay the pass with a batch; None if there is no plan for it, or the plan was wrong."""
        del measure_memory  # saved tensor hooks do not see what graphs keep
        plan = self.history.plan()
        if plan is None or kind_of_batch(batch) != self._kind:
            return None
        passed = self._recorded(plan, batch)
        found = None if passed is None else passed(batch)
        if found is not None:
            self.history.note(plan)
        return found

    def _recorded(self, plan: Plan, batch: Batch) -> PlannedPass | None:
        refused = ""
        if plan not in self._passes:
            try:
                self._passes[plan] = PlannedPass(self.forward, self.solve, plan, batch, fusing=self.fusing)
            except CannotCompile as reason:
                refused = str(reason)
            except torch.OutOfMemoryError:
                refused = "there is no memory for it on the GPU"
        if refused := refused or self._passes[plan].values_read.changed():
            self.say(f"captured step by step, not as a whole: {refused}")
            self._passes.clear()
            self.history.refused = True
            return None
        return self._passes[plan]
