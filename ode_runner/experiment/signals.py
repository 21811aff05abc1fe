"""SIGINT and SIGTERM as a request to stop at the next step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ode_runner.errors import Interrupted


class StopRequest:
    """Set by a signal, read between steps."""

    signal_name = ""

    @property
    def by_a_person(self) -> bool:
        """Rather than by a scheduler, which has signals of its own."""
        return self.signal_name in ("SIGINT", "SIGTERM")

    def check(self) -> None:
        """Raises Interrupted if a stop was asked for."""
        if self.signal_name:
            raise Interrupted(f"stopped by {self.signal_name}")


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """The first signal asks politely; a second one interrupts at once, as Python does by itself.

    A scheduler that waits for a signal of its own, as submitit does on Slurm, is passed it on once the run has saved
    what it has, and queues the job again. It has its own mind about SIGTERM, too.
    """
    stop = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal_name:
            raise KeyboardInterrupt
        stop.signal_name = signal.Signals(number).name

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    scheduler = [number for number in (signal.SIGUSR1, signal.SIGUSR2) if callable(signal.getsignal(number))]
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
    """Between the runs of a sweep, SIGTERM is what Ctrl-C is."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    outer = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, outer)


def leave_signals_to_the_first() -> None:
    """A helper stops when the first process does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
