"""Compiles C code into functions of tensors, with the system's compiler."""

import ctypes
import getpass
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ode_runner.compiling.c_code.operations import NoCode
from ode_runner.compiling.c_code.products import link
from ode_runner.compiling.c_code.recorder import Recording
from ode_runner.errors import CannotCompile

POSSIBLE = os.name == "posix"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c11", "-O2", "-ftree-vectorize", "-march=native", "-fPIC", "-shared", "-w")  # -O3 makes slower code
OF_GCC = ("-fvect-cost-model=dynamic",)  # vectorises short loops, too; clang does so by default and lacks the flag
ARITHMETIC = ("-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")  # infinities and NaN are kept
VECTOR_MATH = ("-DVECTOR_MATH", "-Wl,--no-undefined", "-lmvec")  # vector functions of glibc 2.35 or newer


def library(source: str) -> ctypes.PyDLL:
    """Compile C code. Its functions hold the GIL, because their static arrays allow only one call at a time.

    Raises:
        CannotCompile: there is no C compiler.
        NoCode: the compiler does not accept the code or the flags, or the system is Windows.
    """
    if not POSSIBLE:
        raise NoCode("compilers of Windows are called otherwise")
    made = ctypes.PyDLL(str(_library(source)))
    link(made)
    return made


def function_of(made: ctypes.PyDLL, name: str, recording: Recording) -> Callable[..., list[Tensor]]:
    """The compiled function of this name, with the signature of the recorded one."""
    run = made[f"piece_{name}"]
    like = [torch.empty(y.shape, dtype=y.dtype) for y in recording.outputs]
    run.restype, run.argtypes = None, [ctypes.c_void_p] * (len(recording.inputs) + len(like))

    def call(*given: Tensor) -> list[Tensor]:
        found = [torch.empty_like(y) for y in like]  # the fastest way to allocate
        run(*[x.data_ptr() for x in given], *[y.data_ptr() for y in found])
        return found

    return call


def _library(source: str) -> Path:
    """The file of the compiled library, which later processes on the same machine reuse."""
    compiler = _compiler()
    parts = [source, *compiler, *FLAGS, *OF_GCC, *ARITHMETIC, *VECTOR_MATH, _processor()]
    library = _folder() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.so"
    if not library.exists():
        _compile(source, compiler, library)
    return library


def _compile(source: str, compiler: Sequence[str], library: Path) -> None:
    """Compile into a temporary file and move it, because another process may be doing the same."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        code, made = Path(folder) / "code.c", Path(folder) / "code.so"
        code.write_text(source, encoding="utf-8")
        for of_gcc, vector_math in product((OF_GCC, ()), (VECTOR_MATH, ())):
            flags = [*FLAGS, *of_gcc, *ARITHMETIC]
            command = [*compiler, *flags, "-o", str(made), str(code), *vector_math, "-lm"]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode == 0:
                made.replace(library)
                return
    raise NoCode(f"{compiler[0]}: {(ended.stderr.strip().splitlines() or ['failed'])[0]}")


@cache
def _compiler() -> Sequence[str]:
    wanted = shlex.split(os.environ.get("CC", ""))
    for command in ([wanted] if wanted else []) + [[name] for name in COMPILERS]:
        if found := shutil.which(command[0]):
            return (found, *command[1:])
    raise CannotCompile("there is no C compiler")


@cache
def _processor() -> str:
    """A description of the processor, to distinguish its machine code from that of others with the same folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.version()
    return "\n".join(line for line in dict.fromkeys(lines) if line.startswith(("model name", "flags", "Features")))


@cache
def _folder() -> Path:
    """A folder of the user, in which nobody else may write code."""
    folder = Path(tempfile.gettempdir()) / f"ode_runner_{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if sys.platform == "win32" or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise CannotCompile(f"{folder} belongs to somebody else")
    return folder
