"""What happens to operations on tensors of a simulated GPU."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from tests.gpu.simulated_gpu.gru_cell import OF_GPUS_ALONE
from tests.gpu.simulated_gpu.recording import Recording
from tests.gpu.simulated_gpu.tensors import CudaTensor

aten = torch.ops.aten
WARN, ERROR = 1, 2  # of torch.cuda.set_sync_debug_mode
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
WAITING = {  # operations whose result, or its shape, the CPU needs
    aten._linalg_check_errors.default,
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
}
OF_BOTH_DEVICES = {aten._foreach_copy_.default, aten.set_.source_Tensor, *INDEXING}
AT_ONCE = {  # views that PyTorch marks by a bit of the tensor, which one that stands for another does not have
    aten._conj.default: aten._conj_physical.default,
    aten._neg_view.default: aten.neg.default,
}
WITHOUT_NUMBERS = {aten.cat.default, aten.mm.default, aten.addmm.default, aten.bmm.default}  # not even one of the CPU


class Gpu:
    """The one there is. Everything is done at once, but for copies that nobody has waited for."""

    def __init__(self) -> None:
        self.sync_debug_mode = 0
        self.recording: Recording | None = None  # of the graph that is being recorded
        self.generator = torch.Generator()
        self._pinned: list[StorageWeakRef] = []
        self._copies: list[tuple[Tensor, Tensor]] = []  # to the CPU: where to, and what
        self._sent: list[tuple[Tensor, Tensor]] = []  # from pinned memory, and what was in it

    def wait(self) -> None:
        """What has been asked for is done.

        Raises:
            AssertionError: memory has been written into before it was copied.
        """
        copies, self._copies = self._copies, []
        for memory, numbers in copies:
            memory.copy_(numbers)
        sent, self._sent = self._sent, []
        for memory, numbers in sent:
            if not torch.equal(memory.nan_to_num(), numbers.nan_to_num()):
                raise AssertionError("pinned memory was written into before it had been copied to the GPU")

    def pin(self, x: Tensor) -> Tensor:
        """A copy in pinned memory."""
        y = x.clone()
        self._pinned.append(StorageWeakRef(y.untyped_storage()))
        return y

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operation of which a tensor, or the result, may be on the GPU."""
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        device = kwargs.get("device")
        to_gpu = device is not None and torch.device(device).type == "cuda"
        if not to_gpu and not any(isinstance(x, CudaTensor) for x in tensors):
            return self._on_cpu(func, args, kwargs)
        if func is aten._to_copy.default:
            return self._to_copy(args[0], kwargs)
        if func is aten.copy_.default:
            return self._copy_(*args, **kwargs)
        func = AT_ONCE.get(func, func)
        _check_devices(func, tensors)
        if func in WAITING or (func in INDEXING and _indexed_by_the_cpu(args[1])):
            self._must_wait()
        return self._on_gpu(func, args, kwargs)

    def computed(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operation on what stands for tensors of the GPU, which has a random generator of its own."""
        drawing = torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())
        if not drawing or self.generator is torch.default_generator:
            return func(*args, **kwargs)
        before = torch.get_rng_state()
        torch.default_generator.set_state(self.generator.get_state())
        try:
            return func(*args, **kwargs)
        finally:
            self.generator.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)

    def _must_wait(self) -> None:
        if self.recording is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        said = "called a synchronizing CUDA operation"
        if self.sync_debug_mode == ERROR:
            raise RuntimeError(said)
        if self.sync_debug_mode == WARN:
            warnings.warn(said, stacklevel=2)
        self.wait()

    def _on_cpu(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func is aten.is_pinned.default:
            return self._is_pinned(args[0])
        if func is aten._pin_memory.default:
            return self.pin(args[0])
        if kwargs.get("pin_memory"):
            return self.pin(func(*args, **(kwargs | {"pin_memory": False})))
        return func(*args, **kwargs)

    def _is_pinned(self, x: Tensor) -> bool:
        self._pinned = [one for one in self._pinned if not one.expired()]
        return StorageWeakRef(x.untyped_storage()) in self._pinned

    def _on_gpu(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func is aten.is_pinned.default:
            return False
        if func is aten._efficientzerotensor.default:
            func = aten.zeros.default
        leaves = pytree.tree_leaves((args, kwargs))
        memories = [x.memory for x in leaves if isinstance(x, CudaTensor)]
        inner_args, inner_kwargs = pytree.tree_map(_inner, (args, kwargs))
        inner_kwargs.pop("pin_memory", None)
        if inner_kwargs.get("device") is not None:
            inner_kwargs["device"] = torch.device("cpu")
        computed = OF_GPUS_ALONE.get(func, func)
        found = self.computed(computed, inner_args, inner_kwargs)
        if self.recording is not None:
            self.recording.note(computed, inner_args, inner_kwargs, found, memories)
        wrapped = pytree.tree_map(lambda x: CudaTensor(x) if isinstance(x, Tensor) else x, found)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if memories else wrapped

    def _to_copy(self, x: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Another type of number, or another device."""
        device, non_blocking = kwargs.get("device"), bool(kwargs.get("non_blocking"))
        plain = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking", "pin_memory")}
        if not isinstance(x, CudaTensor):
            self._send(x, non_blocking=non_blocking)
            converted = aten._to_copy.default(x, **plain)
            if self.recording is not None:
                self.recording.note(aten._to_copy.default, (x,), plain, converted, [])
            return CudaTensor(converted)
        if device is not None and torch.device(device).type == "cpu":
            return self._fetch(aten._to_copy.default(x.on_cpu, **plain), x.on_cpu, non_blocking=non_blocking)
        found: Tensor = self._on_gpu(aten._to_copy.default, (x,), plain)
        return found

    def _copy_(self, to: Tensor, x: Tensor, non_blocking: bool = False) -> Tensor:
        if not isinstance(to, CudaTensor):
            assert isinstance(x, CudaTensor)
            return self._fetch(to, x.on_cpu, non_blocking=non_blocking and self._is_pinned(to))
        if not isinstance(x, CudaTensor):
            self._send(x, non_blocking=non_blocking)
        found: Tensor = self._on_gpu(aten.copy_.default, (to, x), {})
        return found

    def _send(self, x: Tensor, *, non_blocking: bool) -> None:
        """From the CPU."""
        if not non_blocking:
            self._must_wait()
        elif self._is_pinned(x):
            self._sent.append((x.detach(), x.detach().clone()))
        elif self.recording is not None:
            raise RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture unless pinned")

    def _fetch(self, to: Tensor, x: Tensor, *, non_blocking: bool) -> Tensor:
        """To the CPU; until it is waited for, nobody knows what is there."""
        if not non_blocking:
            self._must_wait()
            return to.copy_(x)
        assert self.recording is None, "numbers are fetched between graphs"
        to.fill_(torch.nan if to.is_floating_point() else 99)
        self._copies.append((to, x.clone()))
        return to


class Everything(TorchDispatchMode):
    """Sees what makes tensors on the GPU, and in pinned memory."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return GPU.call(func, args, kwargs or {})


def _inner(x: Any) -> Any:
    return x.on_cpu if isinstance(x, CudaTensor) else x


def _indexed_by_the_cpu(indices: Any) -> bool:
    """Whether the CPU counts what is true, or sends its own indices."""
    given = [x for x in indices if x is not None]
    return any(x.dtype in (torch.bool, torch.uint8) or not isinstance(x, CudaTensor) for x in given)


def _check_devices(func: Any, tensors: list[Tensor]) -> None:
    """Raises RuntimeError where a tensor of the CPU is no number, or not even a number may be."""
    elsewhere = [] if func in OF_BOTH_DEVICES else [x for x in tensors if not isinstance(x, CudaTensor)]
    if len(elsewhere) < len(tensors) and any(x.dim() or func in WITHOUT_NUMBERS for x in elsewhere):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {func}")


GPU = Gpu()
CudaTensor.call = GPU.call
