"""Signals that ask a run to stop at its next step."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ode_runner.errors import Interrupted


class StopRequest:
    """Set by a signal, read between steps."""

    signal_name = ""

    @property
    def from_user(self) -> bool:
        """Whether a user's signal was received, and not one of a scheduler."""
        return self.signal_name in ("SIGINT", "SIGTERM")

    def check(self) -> None:
        """Raises Interrupted if a stop was asked for."""
        if self.signal_name:
            raise Interrupted(f"stopped by {self.signal_name}")


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn signals into a StopRequest: the first sets it, and a second one raises KeyboardInterrupt at once.

    If a scheduler has set a handler for SIGUSR1 or SIGUSR2, as submitit does on Slurm, that signal is raised again once
    the run has saved its progress, so that the scheduler requeues the job. SIGTERM is then left to the scheduler.
    """
    stop = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal_name:
            raise KeyboardInterrupt
        stop.signal_name = signal.Signals(number).name

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    scheduler = [number for number in _of_schedulers() if callable(signal.getsignal(number))]
    outer = {number: signal.signal(number, note) for number in (signal.SIGINT, *(scheduler or [signal.SIGTERM]))}
    try:
        yield stop
    finally:
        for number, handler in outer.items():
            signal.signal(number, handler)
        for number in scheduler:
            if stop.signal_name == number.name:
                signal.raise_signal(number)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Around a sweep: SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    outer = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, outer)


def ignore_stop_signals() -> None:
    """Ignore the signals that stop a run: a worker ends when the main process does."""
    for number in (signal.SIGINT, signal.SIGTERM, *_of_schedulers()):
        signal.signal(number, signal.SIG_IGN)


def _of_schedulers() -> list[signal.Signals]:
    """The signals by which schedulers announce the end of a job; Windows has none of them."""
    if sys.platform == "win32":
        return []
    return [signal.SIGUSR1, signal.SIGUSR2]
