"""Animated figures."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ode_runner.plots.figure_types import Figure

HOLD = 1.0  # seconds for which the last frame stays


@dataclass(frozen=True, kw_only=True)
class Animation:
    """A figure and a function that changes it from frame to frame."""

    figure: Figure
    show: Callable[[int], object]  # changes the figure into frame number i, from 0
    frames: int
    per_second: int

    def gif(self) -> bytes:
        """The content of a GIF that repeats forever; the layout of the axes is that of the first frame."""
        from matplotlib.animation import PillowWriter

        writer = PillowWriter(fps=self.per_second)
        self.show(0)
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        with tempfile.TemporaryDirectory() as folder:  # Pillow writes to a path
            path = Path(folder) / "animation.gif"
            with writer.saving(self.figure, str(path), dpi=self.figure.dpi):
                for i in range(self.frames):
                    self.show(i)
                    writer.grab_frame()
                for _ in range(round(HOLD * self.per_second)):
                    writer.grab_frame()
            return path.read_bytes()


Picture = Figure | Animation
