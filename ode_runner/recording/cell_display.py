"""The display of a run that is a cell of a sweep: it prints only remarks, each once; all else goes into its log."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ode_runner.recording.display import Display
from ode_runner.recording.repeated_remarks import is_first
from ode_runner.recording.sweep_bar import open_bar


class CellDisplay(Display):
    """Prints remarks with the name of the run's folder, because several runs may go on at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.name = folder.name

    def start(self, total_steps: int, step: int) -> None:
        """Opens no progress bar: there is one for the whole sweep."""

    def advance(self, *, step: int, total_steps: int, progress: Callable[[], Mapping[str, str]]) -> None:
        if (bar := open_bar()) is not None:
            bar.advance(step / total_steps, "epoch {epoch}  {numbers}".format_map(progress()))

    def after_training(self, what: str) -> None:
        if (bar := open_bar()) is not None:
            bar.advance(1.0, what)

    def remark(self, text: str) -> None:
        self.say(text, style="yellow")

    def _print(self, text: str, style: str | None = None) -> None:
        if style == "yellow" and is_first(text, of=self.name):
            super()._print(f"{self.name}: {text.strip()}", style)
