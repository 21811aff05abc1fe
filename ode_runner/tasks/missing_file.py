"""The reason why a name that was typed for a file names none."""

import os
import re
from pathlib import Path


def why_missing(name: str | Path) -> str:
    """The reason, as a clause, why there is no file of this name; shows what a shell would have expanded it to."""
    text = str(name)
    if text in ("", "."):
        return "that names no file" if not text else "that is a folder"
    if re.match(r"(https?|ftp|s3):/", text):
        return "that is an address, and only files on this machine are read: download it"
    expanded = os.path.expandvars(os.path.expanduser(text))
    if expanded != text:
        return f"the shell has not expanded that: type {expanded}"
    return "that is a folder" if Path(name).is_dir() else "there is no such file"
