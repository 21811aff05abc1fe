"""Entry points of child processes, which end when their parent process ends.

Imports nothing slow: a child could outlive its parent until it starts to watch it.
"""

import os
import pickle
import sys
import threading
from multiprocessing import connection, parent_process
from typing import Any

from ode_runner.experiment.signals import ignore_stop_signals


def run_child(work: bytes, *arguments: Any) -> None:
    """Calls the pickled function `work` with `arguments`; signals are ignored, because the parent handles them."""
    ignore_stop_signals()
    _run(work, *arguments)


def run_in_own_group(work: bytes, *arguments: Any) -> None:
    """Calls the pickled function `work` in its own process group: Ctrl-C reaches only the parent, which sends SIGTERM.

    Windows has no such groups: Ctrl-C reaches the child, too, which then saves its progress by itself.
    """
    if sys.platform != "win32":
        os.setpgid(0, 0)
    _run(work, *arguments)


def _run(work: bytes, *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pickle.loads(work)(*arguments)  # its imports happen here


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
