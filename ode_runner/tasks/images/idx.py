"""Files in MNIST's idx format, plain or gzipped, under the names that are in use."""

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
BYTES = 0x08  # the format's code for unsigned bytes
PACKED = b"\x1f\x8b"  # first bytes of a gzip file, whatever its name


def names_of(name: str) -> list[str]:
    """The names in use for a file: LeCun's, the same with a dot before the format, and both with .gz."""
    dotted = name.replace("-idx", ".idx")
    return [name, dotted, f"{name}.gz", f"{dotted}.gz"]


def find_file(folder: Path, name: str) -> Path | None:
    """The file in `folder` under any of these names; None if there is none."""
    return next((folder / other for other in names_of(name) if (folder / other).is_file()), None)


def read_idx(path: Path, *, dimensions: int) -> Tensor:
    """The bytes of a file, in the shape that its header gives.

    Raises:
        RefusedInput: the file is truncated or in another format.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(len(PACKED)) == PACKED
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, BYTES, dimensions]) or len(header) != 4 + 4 * dimensions:
                raise ValueError(f"no idx file of bytes in {dimensions} dimensions")
            shape = [int(size) for size in np.frombuffer(header[4:], ">u4")]
            content = file.read(math.prod(shape) + 1)  # no more: a gzip file may expand to any number of zeros
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
    """A hash of the contents, compressed or not, 12 hexadecimal digits; None if a file is damaged.

    A file that has not changed is not read again.
    """
    try:
        hashes = [_hash(path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    except (OSError, RefusedInput):
        return None
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, changed: int) -> str:
    del size, changed  # only keys of the cache
    dimensions = 3 if "images" in path.name else 1
    content = read_idx(path, dimensions=dimensions)
    return hashlib.sha256(str(tuple(content.shape)).encode() + content.numpy().tobytes()).hexdigest()
