"""The forward pass of a batch to its loss, with its evaluations and the bytes that autograd saves for backward."""

from dataclasses import dataclass, replace

from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.devices.buffers import Buffers
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.loss_scaling import LossScaling
from ode_runner.experiment.meters import SavedBytes
from ode_runner.experiment.row_cost import sentence_on_rows
from ode_runner.experiment.unpaired_targets import sentence_on_targets
from ode_runner.experiment.unused_parameters import nodes_so_far, sentences_on_parameters
from ode_runner.experiment.unused_solver import sentence_on_solver
from ode_runner.fields.ledger import EachSample, Phase, Tally
from ode_runner.objectives.base import Loss

UNMEASURED = (
    "bytes saved for the backward pass are not measured: torch does not allow that where a model calls "
    "torch.func.grad, vjp, jacrev or hessian. Everything else is measured."
)


@dataclass(frozen=True, kw_only=True)
class ForwardResult:
    """Loss and cost of one batch."""

    loss: Loss
    tally: Tally
    each: list[EachSample]
    saved_bytes: int | None = None  # kept for the backward pass; None: not measured


class ForwardPass:
    """Computes the losses of batches. Evaluations are counted in the ledger under `phase`.

    torch.func.grad and its like cannot be called under saved tensor hooks. The first pass that fails for that reason is
    undone and repeated without hooks, and all later passes have none: only the measurement is missing.

    `scaling` multiplies the loss before it is differentiated; None: no scaling.
    """

    def __init__(self, experiment: Experiment, *, phase: Phase, scaling: LossScaling | None = None) -> None:
        self.experiment, self.phase, self.scaling = experiment, phase, scaling
        self._measurable = True  # until a pass shows that it is not
        self._remarked = set[str]()
        self._on_first: list[str] | None = None  # sentences about the first pass; None: not made yet

    def __call__(self, batch: Batch, *, measure_memory: bool) -> ForwardResult:
        if measure_memory and self._measurable:
            passed = self._measured(batch)
            self._measurable = passed is not None
            if passed is not None:
                return passed
        return self._made(batch)

    def differentiated(self, loss: Loss) -> Tensor:
        """The tensor to differentiate: the total loss, scaled if the precision requires it."""
        return loss.total if self.scaling is None else self.scaling.scaled(loss.total)

    def remark(self) -> str:
        """A sentence for the user, or "". Each sentence is returned once.

        There is one if saved bytes cannot be measured, one if a solve along a series takes many evaluations, one if
        nothing is solved by the solver, ones on parameters that training does not change, and one if a loss compares
        outputs with targets of other samples.
        """
        found = [*([] if self._measurable else [UNMEASURED]), *(self._on_first or [])]
        new = [sentence for sentence in found if sentence not in self._remarked]
        self._remarked.update(new[:1])
        return new[0] if new else ""

    def _measured(self, batch: Batch) -> ForwardResult | None:
        """The pass under saved tensor hooks; None if torch forbids them. Then all side effects are undone."""
        ledger, memory = self.experiment.integrator.ledger, SavedBytes(self.experiment.model.parameters())
        entered, random = replace(ledger.totals[self.phase]), RandomState.now(self.experiment.device)
        buffers = Buffers.now(self.experiment.model)
        try:
            with memory:
                passed = self._made(batch)
            return replace(passed, saved_bytes=memory.bytes())
        except (RuntimeError, RefusedInput) as error:
            if not memory.is_caused_by_hooks(error):
                raise
        ledger.put_back(self.phase, entered)
        random.restore()
        buffers.restore()
        return None

    def _made(self, batch: Batch) -> ForwardResult:
        ledger, first = self.experiment.integrator.ledger, self._on_first is None and self.phase is Phase.FORWARD
        before = nodes_so_far() if first else 0
        with ledger.phase(self.phase) as tally, ledger.each_sample() as each:
            loss = self.experiment.loss(batch)
        if first:  # in audits nobody reads them
            on_rows = sentence_on_rows(self.experiment, batch, tally.evaluations)
            on_solver = sentence_on_solver(self.experiment, tally.evaluations)
            on_parameters = sentences_on_parameters(self.experiment.model, loss, before=before)
            on_targets = sentence_on_targets(self.experiment.task, batch, loss)
            self._on_first = [sentence for sentence in (on_rows, on_solver, *on_parameters, on_targets) if sentence]
        return ForwardResult(loss=loss, tally=tally, each=each)
