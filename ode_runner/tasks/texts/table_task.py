"""What the tasks share whose texts have probabilities in a table."""

from torch import Tensor

from ode_runner.tasks.set_metrics import SetMetric
from ode_runner.tasks.texts.token_laws import TableLaw
from ode_runner.tasks.texts.token_metrics import frequencies, kl_divergence
from ode_runner.tasks.texts.token_task import TokenTask
from ode_runner.tasks.variation import total_variation


class TableTask(TokenTask):
    """Texts whose frequencies among the samples can be compared with the law itself, one by one.

    Besides what is measured of other texts, `tv` is the distance in total variation, and `kl` the sum of
    q log(q / p) where q are the frequencies and p the law: infinite where a text was drawn that the law does not know.
    """

    def sample_metrics(self, texts: Tensor) -> dict[str, SetMetric]:
        assert isinstance(self.law, TableLaw)
        law, both = self.law.table, [frequencies(part, self.spec.tokens) for part in (texts, self._true(len(texts)))]
        found = {"tv": SetMetric(*(float(total_variation(part, law)) for part in both))}
        if self.law.always_possible:
            found["kl"] = SetMetric(*(kl_divergence(part, law) for part in both))
        return super().sample_metrics(texts) | found
