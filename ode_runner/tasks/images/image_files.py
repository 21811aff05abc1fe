"""The user's image files: those in a folder, their classes, and their pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as F

from ode_runner.errors import RefusedInput


@dataclass(frozen=True)
class ImageFile:
    """One image file: its path, its name and its class."""

    path: Path
    name: str  # path relative to the folder
    label: str  # name of the subfolder; "" if it lies in none


def find_images(folder: Path) -> list[ImageFile]:
    """All images below a folder, sorted by path.

    Raises:
        RefusedInput: there is no such folder, or no image in it.
    """
    if folder.is_file() and folder.suffix.lower() in IMG_EXTENSIONS:
        return [ImageFile(folder, folder.name, "")]
    if not folder.is_dir():
        raise RefusedInput(f"{folder}: there is no such folder.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    if not paths:
        raise RefusedInput(f"{folder} holds no image. A file is one if its name ends in {', '.join(IMG_EXTENSIONS)}.")
    parts = [path.relative_to(folder).parts for path in paths]
    return [
        ImageFile(path, "/".join(own), own[0] if len(own) > 1 else "") for path, own in zip(paths, parts, strict=True)
    ]


def read_images(files: Sequence[ImageFile], *, size: tuple[int, int], colour: bool) -> Tensor:
    """Pixels (files, 3 or 1, height, width), bytes: each image is resized to cover `size` and cropped at its centre.

    Raises:
        RefusedInput: a file is damaged.
    """
    return torch.stack([_pixels(file.path, size=size, colour=colour) for file in files])


def content_of(folder: Path) -> str | None:
    """A hash of the names and bytes of all images, 12 hexadecimal digits; None if there are none."""
    try:
        files = find_images(folder)
        parts = [
            (file.name, _hash(file.path, file.path.stat().st_size, file.path.stat().st_mtime_ns)) for file in files
        ]
    except (OSError, RefusedInput):
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


@lru_cache(maxsize=100_000)
def _hash(path: Path, size: int, changed: int) -> str:
    del size, changed  # only keys of the cache: a file that has not changed is not read again
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _as_seen(image: Image.Image, path: Path) -> Image.Image:
    """The image with 8 bits per channel, rotated as its EXIF data say, and white where it is transparent.

    Pillow's own conversion clips values to 8 bits, so that a 16-bit image becomes white, and it drops transparency.

    Raises:
        RefusedInput: the file does not say which pixel value is white.
    """
    deep = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")  # how old Pillows read a PNG
    if image.mode in ("I", "F") and not deep:
        raise RefusedInput(f"{path} has pixels of 32 bits, without a defined white level. Save it with 8 or 16.")
    upright = ImageOps.exif_transpose(image)
    if deep:
        levels = np.asarray(upright).astype(np.int64)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # maps 65,535 to 255
    if not upright.has_transparency_data:
        return upright
    seen = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)


def _pixels(path: Path, *, size: tuple[int, int], colour: bool) -> Tensor:
    try:
        with Image.open(path) as image:
            pixels = F.pil_to_tensor(_as_seen(image, path).convert("RGB" if colour else "L"))
    except RefusedInput:  # it is also a ValueError
        raise
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise RefusedInput(
            f"{path} cannot be read as an image ({type(error).__name__}). Replace it by one that can be read, or "
            "move it out of the folder."
        ) from error
    height, width = pixels.shape[1:]
    scale = max(size[0] / height, size[1] / width)
    larger = [max(side, round(scale * own)) for side, own in zip(size, (height, width), strict=True)]
    return F.center_crop(F.resize(pixels, larger, antialias=True), list(size))
