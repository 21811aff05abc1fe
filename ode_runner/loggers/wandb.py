"""Weights & Biases: curves, pictures, options and results, on its server or in files until `wandb sync`."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from ode_runner.errors import RefusedInput
from ode_runner.recording.logger import MetricLogger


@final
class WandbLogger(MetricLogger):
    """Uses one W&B run for each run folder; its files are in the subfolder `wandb`.

    A resumed run continues under the same id. Curves are over our `step`, because W&B's own step may not decrease.

    Raises:
        RefusedInput: the user is not logged in, or the server cannot be reached.
    """

    remote: ClassVar[bool] = True
    package: ClassVar[str | None] = "wandb"

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int,
        project: str,
        entity: str | None,
        mode: Literal["online", "offline"] | None,
    ) -> None:
        import wandb

        try:
            self.run: Any = wandb.init(
                project=project,
                entity=entity,
                mode=mode,
                dir=str(folder),
                name=folder.name,
                group=folder.parent.name,
                id=_id(folder) if first_step else None,
                resume="allow",
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # an error of the client or the network
            raise RefusedInput(
                f"logger=wandb cannot begin: {' '.join(str(error).split())[:200]} Type logger.wandb.mode=offline, or "
                "leave it out."
            ) from error
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        self.run.log({"step": step, **scalars})

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        import wandb
        from PIL import Image

        self.run.log({"step": step, f"plots/{name}": wandb.Image(Image.open(io.BytesIO(png)))})

    def text(self, name: str, content: str) -> None:
        self.run.summary[name] = content

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        self.run.config.update(dict(hyperparameters), allow_val_change=True)
        self.run.summary.update(dict(metrics))

    def close(self) -> None:
        self.run.finish()


def _id(folder: Path) -> str | None:
    """The id of the latest session, from the name of its folder: offline-run-<time>-<id>."""
    sessions = sorted((folder / "wandb").glob("*run-*-*"), key=lambda path: path.name.split("run-")[-1])
    return sessions[-1].name.rpartition("-")[2] if sessions else None
