"""A Transformer as the discretisation of a differential equation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ode_runner.encoding import Encoding, state_alone
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.models.base import Model, Numerics
from ode_runner.models.depth.depth_blocks import (
    ADAMS_BASHFORTH,
    CLASSICAL,
    HEUN,
    DepthBlock,
    Gamma,
    Iterated,
    LayerField,
    Macaron,
    MultiStep,
    Parallel,
    PredictorCorrector,
    PreNorm,
    RungeKutta,
)
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.tokens import TokenNetwork, token_network
from ode_runner.plots.animation import Picture
from ode_runner.plots.depth import draw_sweeps
from ode_runner.problem import Integrate, Solution, TakesStates
from ode_runner.regularizers.depth_varying import Layered
from ode_runner.types import PathStates, State, Times

Block = Literal["prenorm", "parallel", "macaron", "rk2", "rk4", "pc", "iiet", "multistep"]
# By option, the blocks that have it; for `gamma`, those whose stage weights can be learned.
OWN: Mapping[str, tuple[str, ...]] = {
    "gamma": ("rk2", "rk4", "pc", "multistep"),
    "feedforwards": ("macaron",),
    "stages": ("pc",),
    "history": ("pc", "multistep"),
    "sweeps": ("iiet",),
    "test_sweeps": ("iiet",),
}
SMALL = 0.1  # a sweep with a smaller relative change may be omitted


@final
class ODETransformer(Model, Layered):
    """`depth` blocks; each is a step by evaluations of the increment of its own layer.

    Args:
        block: the scheme of a step, see `ode_runner.models.depth.depth_blocks`.
        depth: the number of blocks.
        shared: whether all blocks share one layer; each block has its own stage weights.
        gamma: the kind of stage weights; None: fixed for `rk2` and `rk4`, learned for `pc` and `multistep`.
        feedforwards: for `macaron`: whether both halves share one feed-forward part; None: they do.
        stages: for `pc`: the stages of the predictor, 2 or 4; None: 2.
        history: for `pc`: the number of previous blocks that the corrector uses, None: 0. For `multistep`: the number
            of F, including its own, None: 2.
        sweeps: for `iiet`; None: 1.
        test_sweeps: for `iiet` after training, one number or one per block; None: as in training.

    Li et al. ODE Transformer. ACL 2022. Other blocks name their sources in `ode_runner.models.depth.depth_blocks`.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE
    network_type: ClassVar[type] = TokenNetwork
    test_only: ClassVar[frozenset[str]] = frozenset({"test_sweeps"})
    instead: ClassVar[str] = (
        "its scheme is model.block, such as rk4; solvers are for model=odenet network=transformer solver=dopri5"
    )

    def __init__(
        self,
        network: Network,
        *,
        block: Block,
        depth: int,
        shared: bool,
        gamma: Gamma | None,
        feedforwards: Literal["shared", "own"] | None,
        stages: int | None,
        history: int | None,
        sweeps: int | None,
        test_sweeps: int | Sequence[int] | None,
    ) -> None:
        made_of = token_network(network, "ode_transformer")
        check_sizes("model", depth=depth)
        _check_network(made_of)
        _check_own(
            block, gamma=gamma, feedforwards=feedforwards, stages=stages, history=history, sweeps=sweeps,
            test_sweeps=test_sweeps,
        )  # fmt: skip
        super().__init__(network)
        self.history, self.reach = history, depth if block == "multistep" else depth - 1
        self.test_sweeps = None if test_sweeps is None else _of_each_block(test_sweeps, depth)
        layer = LayerField(made_of.layer()) if shared else None
        self.blocks = nn.ModuleList(
            _block(
                block,
                layer or LayerField(made_of.layer()),
                made_of,
                place=place,
                gamma=gamma or ("learned" if block in ("pc", "multistep") else "fixed"),
                own_feedforwards=feedforwards == "own",
                stages=2 if stages is None else stages,
                history=(2 if block == "multistep" else 0) if history is None else history,
                sweeps=1 if sweeps is None else sweeps,
            )
            for place in range(depth)
        )
        self.head = network.head()

    @property
    def pieces(self) -> Sequence[nn.Module]:
        return [block.layer for block in self.blocks if isinstance(block, DepthBlock)]

    def begin_test(self) -> None:
        for block, sweeps in zip(self.blocks, self.test_sweeps or (), strict=False):
            if isinstance(block, Iterated):
                block.sweeps = sweeps

    @torch.no_grad()
    def residuals(self, inputs: Tensor) -> Tensor:
        """|x_i - x_{i-1}| / |x_i| for the sweeps of `iiet`; NaN if a block has fewer sweeps than another."""
        x, found = self.encode(inputs).y0.mT, list[Tensor]()
        for block in self.blocks:
            if isinstance(block, Iterated):
                states = torch.stack(block.iterates(x, _uncounted)).flatten(2)
                found.append((states.diff(dim=0).norm(dim=2) / states[1:].norm(dim=2)).mean(dim=1).double())
                x = states[-1].view_as(x)
        if not any(len(of) for of in found):
            return super().residuals(inputs)
        return nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=torch.nan)

    def remarks(self, inputs: Tensor) -> Iterator[str]:
        """Sentences if sweeps change a state only a little, or if no block is deep enough for `history`."""
        if self.history is not None and self.history > self.reach:
            yield f"model.history={self.history} is as model.history={self.reach}: no block has more before it"
        residuals = self.residuals(inputs)
        places = torch.arange(1, residuals.shape[-1] + 1, device=residuals.device)
        sweeps, needed = ((places * those).amax(dim=1).tolist() for those in (residuals >= 0, residuals >= SMALL))
        if needed != sweeps:
            yield (
                f"Some sweeps move a state by less than {SMALL:.0%} of its size, which plots/sweeps.png shows. "
                f"model.test_sweeps=[{','.join(map(str, needed))}] leaves them out when the trained model is evaluated."
            )

    def figures(self, inputs: Tensor) -> Iterator[tuple[str, Picture]]:
        """How much each sweep of `iiet` changes the state of each block."""
        residuals = self.residuals(inputs)
        if residuals.numel():
            yield "sweeps", draw_sweeps(residuals)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        del ts
        states = self._through_the_blocks(state_alone(y0, "ode_transformer"), integrate)
        if isinstance(integrate, TakesStates):
            integrate.take_states(states)
        return Solution(ys=torch.stack([states[0], states[-1]]))

    def path(self, encoding: Encoding, ts: Times, integrate: Integrate, *, times: int) -> PathStates:
        """The state after each block; `times` is ignored."""
        del ts, times
        return torch.stack(self._through_the_blocks(state_alone(encoding, "ode_transformer"), integrate))

    def _through_the_blocks(self, y: State, integrate: Integrate) -> list[State]:
        """States (batch, features, positions) before and after each block."""
        states, slopes = [y], list[Tensor]()
        for block in self.blocks:
            x, slope = block(states[-1].mT, slopes, integrate.evaluate)
            slopes.insert(0, slope)
            states.append(x.mT)
        return states


def _block(block: Block, layer: LayerField, network: TokenNetwork, *, place: int, **options: Any) -> DepthBlock:
    """The block with this index in depth, from 0."""
    gamma, history = options["gamma"], options["history"]
    match block:
        case "prenorm":
            return PreNorm(layer)
        case "parallel":
            return Parallel(layer)
        case "macaron":
            return Macaron(layer, last=_other_feedforward(network) if options["own_feedforwards"] else layer)
        case "rk2" | "rk4":
            return RungeKutta(layer, HEUN if block == "rk2" else CLASSICAL, gamma=gamma, features=network.state)
        case "pc":
            method = HEUN if options["stages"] == 2 else CLASSICAL
            return PredictorCorrector(layer, method, gamma=gamma, history=min(history, place))
        case "iiet":
            return Iterated(layer, sweeps=options["sweeps"])
        case "multistep":
            return MultiStep(layer, slopes=min(history, place + 1), gamma=gamma)


def _other_feedforward(network: TokenNetwork) -> LayerField:
    """A layer without attention, of which only the feed-forward part is used."""
    layer = network.layer()
    layer.attend = nn.Identity()
    return LayerField(layer)


def _uncounted(field: LayerField, t: Tensor, x: Tensor, *, call: str = "forward") -> Tensor:
    del call
    return field(t, x)


def _of_each_block(sweeps: int | Sequence[int], depth: int) -> Sequence[int]:
    """The number of sweeps of each block. Raises RefusedInput if they are not one number or one per block."""
    each = [sweeps] * depth if isinstance(sweeps, int) else list(sweeps)
    if len(each) != depth:
        raise RefusedInput(f"model.test_sweeps has {len(each)} numbers, and there are model.depth={depth} blocks.")
    for count in each:
        check_sizes("model", least=0, test_sweeps=count)
    return each


def _check_network(network: TokenNetwork) -> None:
    if network.depth != 1:
        raise IncompatibleChoice(
            f"model=ode_transformer has blocks of one layer each, and network.depth={network.depth} is of fields. "
            f"Use model.depth={network.depth}, and leave network.depth out."
        )
    if network.spec.every_time:
        raise IncompatibleChoice(
            "model=ode_transformer passes its blocks once, and this task asks for outputs at several times. "
            "Use model=odenet."
        )


def _check_own(block: Block, **options: Any) -> None:
    for name, value in options.items():
        if value is not None and block not in OWN[name]:
            raise IncompatibleChoice(
                f"model.{name}={value} is an option of model.block={' and '.join(OWN[name])}, and "
                f"model.block={block} has none. Leave it out."
            )
    if options["gamma"] == "gated" and block != "rk2":
        raise IncompatibleChoice(
            f"model.gamma=gated weighs two stages, and model.block={block} has others. Use model.block=rk2, or "
            "model.gamma=learned."
        )
    _check_numbers(block, **options)


def _check_numbers(block: Block, *, stages: int | None, history: int | None, sweeps: int | None, **_: Any) -> None:
    if stages not in (None, 2, 4):
        raise RefusedInput(f"model.stages must be 2 or 4, not {stages}.")
    if history is not None:
        least, most = (1, len(ADAMS_BASHFORTH)) if block == "multistep" else (0, 100)
        if not least <= history <= most:
            raise RefusedInput(f"model.history of model.block={block} must be from {least} to {most}, not {history}.")
    if sweeps is not None:
        check_sizes("model", least=0, sweeps=sweeps)
