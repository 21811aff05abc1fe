"""Code for a GPU, tried on a simulated one in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    torch.version.cuda is None or torch.cuda.is_available() or shutil.which(os.environ.get("CC", "cc")) is None,
    reason="a GPU is simulated by a PyTorch built for one, a C compiler, and where there is none",
)
@pytest.mark.parametrize(
    "chosen",
    [
        "simulated",
        "captured_solves",
        "fp64-rknet",
        "fp64-dopri5",
        "planned and fp64",
        "resumed",
        "answers_where or random_numbers",
    ],
)
def test_what_is_captured_for_a_gpu_is_right_on_a_simulated_one(chosen: str) -> None:
    tests = [f"tests/gpu/test_{name}.py" for name in ("simulated_gpu", "captured", "against_cpu")]
    command = [sys.executable, "-m", "tests.gpu.simulated_gpu", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ended = subprocess.run([*command, "-k", chosen], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr
    assert "passed" in ended.stdout
