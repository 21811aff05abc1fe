"""Global state of a process, restored after each cell of a sweep: the code of one cell must not affect the next."""

import locale
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from ode_runner.devices.random_state import RandomState


class Setting(NamedTuple):
    """A global setting: functions that read and write it."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _attribute(owner: Any, name: str) -> Setting:
    return Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _contents(owner: Any, name: str) -> Setting:
    """The contents of a list attribute: code may change the list in place, or replace it by another."""
    return Setting(lambda: list(getattr(owner, name)), lambda value: setattr(owner, name, value))


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _set_numpy_errors(how: dict[str, Any]) -> None:
    np.seterr(**how)


SETTINGS = (
    Setting(torch.get_default_dtype, torch.set_default_dtype),
    # The CPU is the default, and naming it would cost every operation of torch some time.
    Setting(
        torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)
    ),
    Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    Setting(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Setting(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting(torch.get_num_threads, torch.set_num_threads),
    *(
        Setting(partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device))
        for device in ("cpu", "cuda")
    ),
    *(_attribute(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
    Setting(np.geterr, _set_numpy_errors),
    Setting(lambda: dict(os.environ), _set_environment),
    Setting(lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    *(_contents(sys, name) for name in ("path", "argv")),
    *(_attribute(sys, name) for name in ("stdout", "stderr")),
    _attribute(logging.root.manager, "disable"),
)


@contextmanager
def unchanged() -> Iterator[None]:
    """Restore SETTINGS, random states, working directory, warnings and matplotlib's settings afterwards."""
    import matplotlib  # here, because a run without pictures does not need it

    before = [setting.read() for setting in SETTINGS]
    with same_folder(), _same_random_numbers(), warnings.catch_warnings(), matplotlib.rc_context():
        try:
            yield
        finally:
            for setting, value in zip(SETTINGS, before, strict=True):
                if setting.read() != value:
                    setting.write(value)


@contextmanager
def same_folder() -> Iterator[None]:
    """Restore the working directory afterwards. Its descriptor is used where possible, for it may have been moved."""
    if sys.platform == "win32":
        with chdir(os.curdir):
            yield
        return
    descriptor = os.open(".", os.O_RDONLY)
    try:
        yield
    finally:
        with suppress(OSError):
            os.fchdir(descriptor)
        os.close(descriptor)


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    try:
        with RandomState.now(device).again():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
