"""Tensors that say they are on a GPU."""

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

DEVICE = torch.device("cuda:0")


class Memory:
    """An allocation on the GPU; alive as long as a tensor is in it."""

    by_storage: ClassVar[weakref.WeakValueDictionary[int, "Memory"]] = weakref.WeakValueDictionary()

    @classmethod
    def of(cls, inner: Tensor) -> "Memory":
        """The allocation in which a tensor of the CPU stands for one of the GPU."""
        address = storage(inner)
        found = cls.by_storage.get(address)
        if found is None:
            found = cls.by_storage[address] = cls()
        return found


def storage(x: Tensor) -> int:
    """What tells the storages of tensors of the CPU apart."""
    return x.untyped_storage()._cdata


class CudaTensor(Tensor):
    """A tensor that says it is on the GPU, and has its numbers in a tensor of the CPU."""

    on_cpu: Tensor
    memory: Memory
    call: ClassVar[Callable[[Any, Any, dict[str, Any]], Any]]  # what happens to an operation on such tensors
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> "CudaTensor":
        return Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )

    def __init__(self, inner: Tensor) -> None:
        self.on_cpu, self.memory = inner, Memory.of(inner)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return CudaTensor.call(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """By this `nn.Module.to` knows a tensor that it has to exchange as a whole."""
        return ["on_cpu"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, context: Any, size: Any, stride: Any) -> "CudaTensor":
        return CudaTensor(inner["on_cpu"])

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.on_cpu.untyped_storage()

    def data_ptr(self) -> int:
        return self.on_cpu.data_ptr()

    def __getitem__(self, index: Any) -> Any:
        """A list of places is sent to the GPU."""
        return super().__getitem__(torch.tensor(index, device=DEVICE) if isinstance(index, list) else index)

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")
        return self.detach().cpu().numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """In files it is a tensor of the CPU: what is loaded is copied to where it belongs."""
        return self.detach().on_cpu.__reduce_ex__(protocol)  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: Any) -> Tensor:
        copy: Tensor = CudaTensor(self.on_cpu.detach().clone())
        return torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"on the GPU: {self.on_cpu!r}"


class Generator(torch.Generator):
    """Stands for torch.Generator; one of the GPU draws numbers of the CPU's kind."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]
