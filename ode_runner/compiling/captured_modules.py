"""The layers of a model before and after an adaptive solve on a GPU, each recorded as a whole."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ode_runner.compiling.captured_function import CapturedFunction
from ode_runner.compiling.captured_solve import OF_CAPTURED_STEPS
from ode_runner.compiling.python_values import PythonValues
from ode_runner.errors import CannotCompile
from ode_runner.field import VectorField
from ode_runner.solvers.first_order import first_order

Call = tuple[nn.Module, Tensor]  # a part of a model, and the input of its call


@contextmanager
def noted_calls(model: nn.Module) -> Iterator[list[Call]]:
    """Yields a list that collects the calls of the model's layers made inside, for layers that are called once.

    Layers are a direct part of the model with parameters but no field or buffer, from one tensor to one tensor.
    """
    calls, more = list[Call](), set[nn.Module]()

    def note(layers: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        plain = len(inputs) == 1 and not named and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
        if not plain or layers in [called for called, _ in calls]:
            more.add(layers)
        else:
            calls.append((layers, inputs[0]))

    parts = [layers for layers in model.children() if _recordable(layers)]
    hooks = [layers.register_forward_hook(note, with_kwargs=True) for layers in parts]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
        calls[:] = [(layers, x) for layers, x in calls if layers not in more]


def _recordable(layers: nn.Module) -> bool:
    holds_field = any(isinstance(module, VectorField) for module in layers.modules())
    has_buffers = next(layers.buffers(), None) is not None
    return not holds_field and not has_buffers and any(p.requires_grad for p in layers.parameters())


@final
class CapturedModules:
    """Layers that are replayed as CUDA graphs inside `installed`.

    Outside, and for inputs of another shape or type, they are called as usual.

    Args:
        calls: layers, and an input of each, as `noted_calls` finds them.
        lower: the type of autocast for them; None: no autocast.
        say: prints which of them cannot be recorded or replayed any more, and why.
    """

    def __init__(self, calls: Sequence[Call], *, lower: torch.dtype | None, say: Callable[[str], None]) -> None:
        self.captured: list[_CapturedModule] = []
        for layers, x in calls:
            try:
                self.captured.append(_CapturedModule(layers, x, lower, say=say))
            except CannotCompile as reason:
                say(f"{type(layers).__name__} before or after the solve is not captured: {reason}")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, a call of a layer replays its recording."""
        for one in self.captured:
            vars(one.layers)["forward"] = one  # hooks and __call__ stay the module's
        try:
            yield
        finally:
            for one in self.captured:
                del vars(one.layers)["forward"]


@final
class _CapturedModule:
    def __init__(self, layers: nn.Module, x: Tensor, lower: torch.dtype | None, *, say: Callable[[str], None]) -> None:
        self.layers, self._original, self._say = layers, layers.forward, say
        self._values_read = PythonValues(layers)
        named = {name: p for name, p in layers.named_parameters() if p.requires_grad}
        self._parameters = list(named.values())
        leaves = {name: p.detach().requires_grad_() for name, p in named.items()}  # the same memory

        def function(x: Tensor) -> list[Tensor]:
            with torch.autocast(x.device.type, lower or torch.bfloat16, enabled=lower is not None, cache_enabled=False):
                return [functional_call(layers, leaves, (x,))]

        self._kind = _kind(x)
        self._recording = CapturedFunction(function, [x], [*leaves.values()], facts=0)
        self._values_read.leave_out_changed()
        self._usable = True  # False once a Python value has changed
        self._held = False  # True while a call may still be differentiated

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        alike = not named and [_kind(x) for x in inputs] == [self._kind]
        if self._usable and (changed := self._values_read.changed()):
            self._usable = False
            self._say(f"{type(self.layers).__name__} before or after the solve is not captured any more: {changed}")
        if self._held or not torch.is_grad_enabled() or not alike or not self._usable:
            return self._original(*inputs, **named)
        return _Repeated.apply(self._recording, _Hold(self), *inputs, *self._parameters)

    def hold(self, held: bool) -> None:
        """Set whether the saved tensors of the recording are still needed."""
        self._held = held


class _Hold:
    """Holds a recording for as long as this object lives, which is as long as autograd's graph."""

    def __init__(self, module: _CapturedModule) -> None:
        self.module = module
        module.hold(True)

    def __del__(self) -> None:
        self.module.hold(False)


def _kind(x: Any) -> tuple[Any, ...]:
    return (x.shape, x.dtype, x.requires_grad) if isinstance(x, Tensor) else ()


class _Repeated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: CapturedFunction, hold: _Hold, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.recording, ctx.hold, ctx.inputs = recording, hold, (x, *parameters)
        [y] = recording(x)
        return y

    @staticmethod
    @first_order(OF_CAPTURED_STEPS)
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        of_input, of_parameters = ctx.recording.pull_back(dy)
        own = torch._foreach_add([*of_input, *of_parameters], 0)  # copies, which no replay overwrites
        return None, None, own[0] if of_input else None, *own[len(of_input) :]
