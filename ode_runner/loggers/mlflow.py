"""MLflow: curves, pictures, options and results, on a server or in a local file."""

import io
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from ode_runner.errors import RefusedInput
from ode_runner.recording.logger import MetricLogger

FOLDER = "ode_run.folder"  # the tag by which a resumed run finds its MLflow run
MOST_LETTERS = 500  # longest value of an option that older servers accept


@final
class MlflowLogger(MetricLogger):
    """Uses one MLflow run for each run folder, by default in the experiment named after the run's parent folder.

    A resumed run continues its MLflow run. MLflow deletes nothing: steps that an interrupted session made after its
    last checkpoint appear twice. A run that ends without results has the status FAILED until it is resumed.

    Raises:
        RefusedInput: the server or the file cannot be reached.
    """

    remote: ClassVar[bool] = True
    package: ClassVar[str | None] = "mlflow"

    def __init__(self, folder: Path, *, first_step: int, tracking_uri: str | None, experiment: str | None) -> None:
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # MLflow logs every table that it creates
        self.status = "FAILED"  # until there are results
        try:
            self.client = MlflowClient(tracking_uri=tracking_uri)
            self.run_id = self._run(folder, experiment or folder.parent.name, resumed=first_step > 0)
        except Exception as error:  # an error of a server, a network or a database
            raise RefusedInput(
                f"logger=mlflow cannot begin: {' '.join(str(error).split())[:200]} Choose another place with "
                "logger.mlflow.tracking_uri=..., or leave it out."
            ) from error

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(_key(n), float(v), now, step) for n, v in scalars.items()])

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        from PIL import Image

        self.client.log_image(self.run_id, Image.open(io.BytesIO(png)), f"plots/{name}_{step}.png")

    def text(self, name: str, content: str) -> None:
        self.client.log_text(self.run_id, content, f"{name}.md")

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Param

        params = [Param(_key(name), str(value)[:MOST_LETTERS]) for name, value in hyperparameters.items()]
        for i in range(0, len(params), 100):  # the maximum in one request
            self.client.log_batch(self.run_id, params=params[i : i + 100])
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, f"final/{_key(name)}", float(value))
        self.status = "FINISHED"

    def close(self) -> None:
        self.client.set_terminated(self.run_id, status=self.status)

    def _run(self, folder: Path, experiment: str, *, resumed: bool) -> str:
        known = self.client.get_experiment_by_name(experiment)
        place = known.experiment_id if known is not None else self.client.create_experiment(experiment)
        if resumed:
            where = f"tags.`{FOLDER}` = '{folder}'"
            if found := self.client.search_runs([place], where, order_by=["attributes.start_time DESC"]):
                self.client.update_run(found[0].info.run_id, status="RUNNING")
                return str(found[0].info.run_id)
        return str(self.client.create_run(place, run_name=folder.name, tags={FOLDER: str(folder)}).info.run_id)


def _key(name: str) -> str:
    """The name, with underscores for characters that MLflow does not accept."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in name)
