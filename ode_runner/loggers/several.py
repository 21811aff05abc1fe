"""Combines all loggers of a run into one."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, final

from ode_runner.errors import in_short
from ode_runner.recording.logger import MetricLogger


@final
class Loggers(MetricLogger):
    """Passes every call on to each of the named loggers. Without any, a run writes only metrics.jsonl.

    A logger to another program, such as a server, is dropped after its first failure, and the run continues.
    """

    def __init__(self, members: Mapping[str, MetricLogger]) -> None:
        self.members = dict(members)

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        self._each(lambda member: member.log(scalars, step=step))

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        self._each(lambda member: member.picture(name, png, step=step))

    def text(self, name: str, content: str) -> None:
        self._each(lambda member: member.text(name, content))

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        self._each(lambda member: member.summary(hyperparameters, metrics))

    def close(self) -> None:
        self._each(lambda member: member.close())

    def _each(self, call: Callable[[MetricLogger], None]) -> None:
        for name, member in list(self.members.items()):
            try:
                call(member)
            except Exception as error:
                if not member.remote:
                    raise
                del self.members[name]
                print(f"ode-run: logger={name} is left out from here on: {in_short(error)}", file=sys.stderr)
