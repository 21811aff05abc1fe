"""`trainer.pictures_every`: the pictures of a run while it trains."""

from dataclasses import replace

from ode_runner.devices.random_state import RandomState
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.presentation import draw
from ode_runner.experiment.process_state import same_folder
from ode_runner.training.session import Session


def draw_if_due(experiment: Experiment, session: Session, *, done: tuple[int, int], step: int) -> None:
    """Draw the present weights, into files and the logger; random numbers are left as they are.

    Args:
        experiment: with the weights by which the run would be judged now.
        session: whose screen says which picture cannot be drawn.
        done: epochs that have been made, and those of the whole run, after the last of which pictures are drawn anyway.
        step: at which the logger has them.
    """
    every, (epoch, epochs) = experiment.options.pictures_every, done
    if every is None or epoch % every or epoch == epochs:
        return
    view = replace(model_view(experiment, session.metrics.rows(), session.stop), animate=False)
    folder = session.metrics.path.parent / "plots"
    with RandomState.now(experiment.device).again(), same_folder():
        draw(experiment, view, folder=folder, display=session.display, logger=session.logger, step=step)
