"""C code as functions of tensors, by the machine's own compiler."""

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
OF_GCC = ("-fvect-cost-model=dynamic",)  # short loops as vectors too, which clang does unasked, and knows no such flag
ARITHMETIC = ("-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")  # infinities and NaN stay what they are
VECTOR_MATH = ("-DVECTOR_MATH", "-Wl,--no-undefined", "-lmvec")  # of glibc from 2.35 on; elsewhere one at a time


def library(source: str) -> ctypes.PyDLL:
    """C code, compiled. Its functions hold Python's lock, for there is one call at a time.

    Raises:
        CannotCompile: there is no C compiler.
        NoCode: it does not understand what is asked of it, or it is one of Windows.
    """
    if not POSSIBLE:
        raise NoCode("compilers of Windows are called otherwise")
    made = ctypes.PyDLL(str(_library(source)))
    link(made)
    return made


def function_of(made: ctypes.PyDLL, name: str, recording: Recording) -> Callable[..., list[Tensor]]:
    """The one of this name as the function that was recorded."""
    run = made[f"piece_{name}"]
    like = [torch.empty(y.shape, dtype=y.dtype) for y in recording.outputs]
    run.restype, run.argtypes = None, [ctypes.c_void_p] * (len(recording.inputs) + len(like))

    def call(*given: Tensor) -> list[Tensor]:
        found = [torch.empty_like(y) for y in like]  # the quickest way to have a new one
        run(*[x.data_ptr() for x in given], *[y.data_ptr() for y in found])
        return found

    return call


def _library(source: str) -> Path:
    """A file of it, kept from one process to the next on the same machine."""
    compiler = _compiler()
    parts = [source, *compiler, *FLAGS, *OF_GCC, *ARITHMETIC, *VECTOR_MATH, _processor()]
    library = _folder() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.so"
    if not library.exists():
        _compile(source, compiler, library)
    return library


def _compile(source: str, compiler: Sequence[str], library: Path) -> None:
    """Under a name of its own first, for another process may be doing the same."""
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
    """By which machine code for this processor is told from that for another one of the same home."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.version()
    return "\n".join(line for line in dict.fromkeys(lines) if line.startswith(("model name", "flags", "Features")))


@cache
def _folder() -> Path:
    """A user's own; nobody else may write code there."""
    folder = Path(tempfile.gettempdir()) / f"ode_runner_{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if sys.platform == "win32" or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise CannotCompile(f"{folder} belongs to somebody else")
    return folder
