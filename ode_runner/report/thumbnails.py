"""Small copies of a run's pictures, to be written into a page."""

import base64
import io
from pathlib import Path

from ode_runner.report.runs import Run

SIZE = (192, 120)  # pixels: twice the size shown, for high-resolution screens
LAST = ("curves", "difficulty", "error")  # pictures that show least at this size; most runs have curves
MOST_BYTES = 20_000_000  # of a file; the largest pictures of a run have some hundred thousand


def pictures_of(run: Run) -> list[Path]:
    """The run's pictures: those of the task first, then curves and errors."""
    found = [path for path in (run.folder / "plots").glob("*") if path.suffix in (".png", ".gif") and path.is_file()]
    return sorted(found, key=lambda path: (path.stem in LAST, path.suffix == ".gif", path.name))


def thumbnail(picture: Path) -> str | None:
    """A small copy as a `data:` URL; None if the file is not a picture."""
    from PIL import Image  # here, because only pages need it

    try:
        if picture.stat().st_size > MOST_BYTES:
            return None
        with Image.open(picture, formats=("PNG", "GIF")) as image:
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow's errors for damaged files
        return None
    small.thumbnail(SIZE, reducing_gap=2.0)
    content = io.BytesIO()
    small.save(content, format="JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
