"""Provenance of a run: versions, machine, commit."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ode_runner.recording.generated_files import GENERATED

EXCEPT = [f":(exclude){path.as_posix()}" for path in GENERATED]
PACKAGES = ("ode-run", "torch", "torchvision", "torchdiffeq", "hydra-core", "numpy", "scikit-learn")


def describe_environment(device: torch.device, *, processes: int = 1) -> dict[str, Any]:
    """Versions, machine and the commit of this program's checkout, if it runs from one."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "bf16_instructions": computes_bf16(device),
        **_commit(),
    }


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions; others emulate bf16, which is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "cpu" or bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_flags())


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
def _cpuinfo() -> tuple[str, ...]:
    """The lines of /proc/cpuinfo; empty on systems other than Linux."""
    try:
        return tuple(Path("/proc/cpuinfo").read_text().splitlines())
    except OSError:
        return ()


def _cpu_flags() -> set[str]:
    return set(next((line for line in _cpuinfo() if line.lower().startswith(("flags", "features"))), "").split())


def _cpu() -> str:
    named = (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@cache
def _commit() -> dict[str, Any]:
    """The commit at the first run of this process (cached): modules that are imported do not change after that."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"git_sha": "", "git_dirty": False}
    sha = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *EXCEPT)
    return {"git_sha": sha, "git_dirty": bool(changed)}


def _git(root: Path, *arguments: str) -> str:
    try:
        finished = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.strip()
