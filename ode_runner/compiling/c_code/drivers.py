"""Assembles the C code that calls compiled functions, from files beside this one."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ode_runner.compiling.c_code.loops import TYPES


def driver_source(dtype: torch.dtype, names: Mapping[str, int | str], *files: str, constants: str = "") -> str:
    """The code of the files, one after another.

    Args:
        dtype: the type of numbers, which the files call R.
        names: macros that the files use, with their values; some have arguments, such as `INPUTS(k)`.
        files: the names of the files.
        constants: further definitions in C that the files read.
    """
    defined = [f"#define {name} {meaning}" for name, meaning in names.items()]
    code = [Path(__file__).with_name(file).read_text(encoding="utf-8") for file in files]
    return "\n".join([f"typedef {TYPES[dtype]} R;", *defined, constants, *code])
