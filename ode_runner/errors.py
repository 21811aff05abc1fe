"""The ways a run can end other than well. Each message is one sentence for the person at the keyboard."""


class RefusedInput(ValueError):
    """What was asked for cannot be done as typed: exit code 2, no traceback."""


class IncompatibleChoice(RefusedInput):
    """Two choices that exist, but not together. A sweep records such a cell and goes on."""


class SolverFailed(RuntimeError):
    """The numerical method could not reach the end of the time span."""


class Diverged(RuntimeError):
    """Loss or gradient is not finite."""


class Interrupted(RuntimeError):
    """SIGINT or SIGTERM asked the run to stop; it has saved what it has."""


class CheckpointRefused(RuntimeError):
    """A checkpoint file that is torn or belongs to another run."""


class InUse(RefusedInput):
    """Another process works in the run folder."""
