"""Files in the format of MNIST (idx), plain or packed, and under the names that they are handed round by."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ode_runner.errors import RefusedInput

FILES = {  # images and labels of each part
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
BYTES = 0x08  # the format's number for the type of the elements
PACKED = b"\x1f\x8b"  # how a gzip file begins, whatever it is called


def names_of(name: str) -> list[str]:
    """A file's name as LeCun has it, then as others have it: with a dot before the format, or packed."""
    dotted = name.replace("-idx", ".idx")
    return [name, dotted, f"{name}.gz", f"{dotted}.gz"]


def find_file(folder: Path, name: str) -> Path | None:
    """The file in `folder` that has one of the names."""
    return next((folder / other for other in names_of(name) if (folder / other).is_file()), None)


def read_idx(path: Path, *, dimensions: int) -> Tensor:
    """The bytes of a file, in the shape that it says.

    Raises:
        RefusedInput: it is torn or in another format.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(len(PACKED)) == PACKED
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, BYTES, dimensions]) or len(header) != 4 + 4 * dimensions:
                raise ValueError(f"no idx file of bytes in {dimensions} dimensions")
            shape = [int(size) for size in np.frombuffer(header[4:], ">u4")]
            content = file.read(math.prod(shape) + 1)  # no more, for a packed file may hold any number of zeros
        if len(content) != math.prod(shape):
            longer = "more" if len(content) > math.prod(shape) else f"{len(content):,}"
            raise ValueError(f"{longer} bytes where it announces {math.prod(shape):,}")
    except (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RefusedInput(
            f"{path} is damaged or not in MNIST's idx format ({reason}). Put a sound copy in its place, or point "
            "task.data_dir elsewhere."
        ) from error
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())


def hash_idx(paths: Sequence[Path]) -> str | None:
    """A hash of what the files hold, packed or not, in 12 hexadecimal digits; None where one is damaged.

    A file that has not changed since is not read again.
    """
    try:
        hashes = [_hash(path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    except (OSError, RefusedInput):
        return None
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, changed: int) -> str:
    del size, changed  # for the cache alone
    dimensions = 3 if "images" in path.name else 1
    content = read_idx(path, dimensions=dimensions)
    return hashlib.sha256(str(tuple(content.shape)).encode() + content.numpy().tobytes()).hexdigest()
