"""How a child process begins. Imports nothing that takes long, for until it watches its parent it may outlive it."""

import os
import pickle
import threading
from multiprocessing import connection, parent_process
from typing import Any

from ode_runner.experiment.signals import leave_signals_to_the_first


def begin(work: bytes, *arguments: Any) -> None:
    """Do the pickled `work`, a function of `arguments`, as long as the parent process is there."""
    leave_signals_to_the_first()
    _do(work, *arguments)


def begin_apart(work: bytes, *arguments: Any) -> None:
    """The same, for work that the parent stops by SIGTERM: Ctrl-C in a terminal is for the parent alone."""
    os.setpgid(0, 0)
    _do(work, *arguments)


def _do(work: bytes, *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pickle.loads(work)(*arguments)  # what it needs is imported here


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
