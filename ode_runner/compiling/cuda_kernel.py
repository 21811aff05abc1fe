"""Compiles CUDA code at run time, by NVIDIA's NVRTC, into functions of tensors."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.errors import CannotCompile

OPTIONS = ("--device-as-default-execution-space", "--disable-warnings")
THREADS = 64  # threads of a block: few, so that a block whose samples are done makes room for another
HEADER = """\
#define ARRAY
#define KERNEL extern "C" __global__ void
#define restrict __restrict__
#define INFINITY __longlong_as_double(0x7ff0000000000000LL)
#define NAN __longlong_as_double(0x7ff8000000000000LL)
"""


def compile_kernels(source: str, names: Sequence[str], device: torch.device) -> Mapping[str, "Kernel"]:
    """The kernels of CUDA code, by name.

    Raises:
        CannotCompile: the package cuda-bindings is not installed, or the code does not compile.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise CannotCompile("the Python package cuda-bindings is not installed") from error
    major, minor = torch.cuda.get_device_capability(device)
    with torch.cuda.device(device):
        torch.cuda.current_stream().synchronize()  # which makes PyTorch's context current in this thread
        module = _checked(driver.cuModuleLoadData(machine_code(source, f"sm_{major}{minor}")))
        found = {name: _checked(driver.cuModuleGetFunction(module, name.encode())) for name in names}
    return {name: Kernel(function, device) for name, function in found.items()}


def machine_code(source: str, architecture: str) -> bytes:
    """Compile CUDA code for an architecture, such as sm_90. This needs no GPU.

    Raises:
        CannotCompile: the code does not compile.
    """
    from cuda.bindings import nvrtc

    options = [option.encode() for option in (f"--gpu-architecture={architecture}", *OPTIONS)]
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"steps.cu", 0, [], []))
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        lines = [line for line in log.decode(errors="replace").splitlines() if "error" in line]
        raise CannotCompile(f"NVRTC does not understand the code of these steps: {(lines or ['?'])[0].strip()}")
    code = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program)))
    _checked(nvrtc.nvrtcGetCUBIN(program, code))
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return bytes(code)


@final
class Kernel:
    """One kernel, which stays loaded until the process ends."""

    def __init__(self, function: Any, device: torch.device) -> None:
        self.function, self.device = function, device

    def __call__(self, threads: int, *arguments: Tensor | int) -> None:
        """Launch on the current stream, with `threads` rounded up to whole blocks; integers are `long long`."""
        from cuda.bindings import driver

        values = [ctypes.c_void_p(x.data_ptr()) if isinstance(x, Tensor) else ctypes.c_longlong(x) for x in arguments]
        places = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        sizes = (-(-threads // THREADS), 1, 1, min(threads, THREADS), 1, 1, 0)
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream().cuda_stream
            _checked(driver.cuLaunchKernel(self.function, *sizes, stream, ctypes.addressof(places), 0))


def _checked(found: Sequence[Any]) -> Any:
    """The result of a function of the bindings, without its status.

    Raises:
        CannotCompile: the status is an error.
    """
    status, *values = found
    if status.value:
        raise CannotCompile(f"the GPU's driver or compiler says {status.name}")
    return values[0] if values else None
