"""The base of tasks with texts whose probabilities are in a table."""

from torch import Tensor

from ode_runner.tasks.set_metrics import SetMetric
from ode_runner.tasks.texts.token_distributions import TableDistribution
from ode_runner.tasks.texts.token_metrics import frequencies, kl_divergence
from ode_runner.tasks.texts.token_task import TokenTask
from ode_runner.tasks.variation import total_variation


class TableTask(TokenTask):
    """Texts for which the frequencies among the samples can be compared with all probabilities.

    In addition to the metrics of other texts, `tv` is the total variation distance, and `kl` is the sum of q log(q /
    p), where q are the frequencies and p the probabilities; infinite if a sampled text has p = 0.
    """

    def sample_metrics(self, texts: Tensor) -> dict[str, SetMetric]:
        assert isinstance(self.distribution, TableDistribution)
        p = self.distribution.table
        both = [frequencies(part, self.spec.tokens) for part in (texts, self._true(len(texts)))]
        found = {"tv": SetMetric(*(float(total_variation(q, p)) for q in both))}
        if self.distribution.always_possible:
            found["kl"] = SetMetric(*(kl_divergence(q, p) for q in both))
        return super().sample_metrics(texts) | found
