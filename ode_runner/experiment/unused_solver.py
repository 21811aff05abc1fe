"""A model of one's own that says it uses the solver, and makes no solve by it."""

from ode_runner.experiment.experiment import Experiment


def sentence_on_solver(experiment: Experiment, evaluations: float) -> str:
    """A sentence for the user if a model with a solver has evaluated no field in a forward pass; otherwise ""."""
    model, integrator = experiment.model, experiment.integrator
    if evaluations or not experiment.objective.solves or "solver" in model.unused_axes():
        return ""
    return (
        f"{type(model).__name__} solves nothing by `integrate`: {integrator.solver.shown_name} and "
        f"{integrator.gradient.shown_name} do nothing, and no evaluation is counted. Return integrate(self.field, y0, "
        "ts) in evolve; or declare numerics = Numerics.NONE."
    )
