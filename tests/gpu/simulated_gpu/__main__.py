"""Runs a Python module where there seems to be a GPU: `python -m tests.gpu.simulated_gpu -m MODULE ARGUMENTS`.

With `--one-generator` before `-m` it draws its random numbers where the CPU draws its own, so that they are the same.
"""

import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests.gpu.simulated_gpu.install import STAND_IN, install
from tests.gpu.simulated_gpu.operations import GPU

# What PyTorch asks of its library and of the driver before a backward pass: whether a device is in use.
DRIVER = """
static int shown = 0;
void show_gpus(int count) { shown = count; }
signed char _ZN3c104cuda12device_countEv(void) { return shown; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 0; return 0; }
"""


def main() -> None:
    if STAND_IN not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(
                subprocess.run([sys.executable, *sys.orig_argv[1:]], env=os.environ | _driver(Path(folder))).returncode
            )
    if sys.argv[1:2] == ["--one-generator"]:
        GPU.generator = torch.default_generator
        del sys.argv[1]
    if sys.argv[1:2] != ["-m"]:
        sys.exit("usage: python -m tests.gpu.simulated_gpu [--one-generator] -m MODULE ARGUMENTS")
    install()
    module, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _driver(folder: Path) -> dict[str, str]:
    """The environment in which a library stands for the driver, made in a folder."""
    (source := folder / "driver.c").write_text(DRIVER)
    library = folder / "libcuda.so.1"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)
    return {STAND_IN: str(library), "LD_PRELOAD": str(library)}


main()
