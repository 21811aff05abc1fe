"""`trainer.pictures_every`: the pictures of a run while it trains."""

from dataclasses import replace

from ode_runner.devices.random_state import RandomState
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.presentation import draw
from ode_runner.experiment.process_state import same_folder
from ode_runner.training.session import Session


def draw_if_due(experiment: Experiment, session: Session, *, done: tuple[int, int], step: int) -> None:
    """Draw the pictures of the present weights into files and the logger. Random state is left as it was.

    Args:
        experiment: has the weights that would be evaluated if the run ended now.
        session: its display names the pictures that cannot be drawn.
        done: the epochs completed and those of the whole run; after the last, pictures are drawn anyway.
        step: the step under which the logger files them.
    """
    every, (epoch, epochs) = experiment.options.pictures_every, done
    if every is None or epoch % every or epoch == epochs:
        return
    view = replace(model_view(experiment, session.metrics.rows(), session.stop), animate=False)
    folder = session.metrics.path.parent / "plots"
    with RandomState.now(experiment.device).again(), same_folder():
        draw(experiment, view, folder=folder, display=session.display, logger=session.logger, step=step)
