"""Words that were typed, and that nothing reads: neither the solver nor the gradient mode chosen, or no training."""

from collections.abc import Collection, Iterator, Sequence

from ode_runner.recording.record import UNUSED, RunRecord

READ_AS = {"tolerance": "rtol", "per_sample": "per_sample"}  # by what option of a solver or a gradient mode
SIZES = {"num_steps": "how many", "step_size": "how long"}  # options of steps that are fixed, and what they say

LEARNING = ("optimizer", "schedule")  # groups that tell how to train
BUDGETS = ("epochs", "max_steps", "max_seconds", "max_nfe", "patience", "accumulate", "max_grad_norm")  # of the trainer
STEPS = ("batch_size", "ema", "audit_every", "pictures_every")  # of the trainer as well


def is_of_training(word: str, *, groups: Collection[str], options: Collection[str]) -> bool:
    """Whether an override is of one of these groups, or one of these options of the trainer."""
    group, _, option = word.lstrip("+~").partition("=")[0].partition(".")
    return group in groups or (group == "trainer" and option in options)


def untrained_words(words: Sequence[str]) -> Iterator[str]:
    """A clause for each word of the overrides typed that tells how to train, for a run that learns nothing."""
    for word in words:
        if is_of_training(word, groups=LEARNING, options=(*BUDGETS, *STEPS)) and not word.endswith("=null"):
            yield f"{word} is not used: nothing is learned"


def unread_words(words: Sequence[str], record: RunRecord) -> Iterator[str]:
    """A clause for each such word of the overrides typed."""
    used = [group for group in ("solver", "gradient") if record.choices[group] != UNUSED]
    read = {option for group in used for option in record.config.get(group) or {}}
    for word in words:
        name, _, value = word.lstrip("+").partition("=")
        if name in READ_AS and READ_AS[name] not in read and value not in ("false", "null"):
            yield f"{word} is not used: {_why(name, record) if 'solver' in used else 'nothing is solved'}"


def _why(name: str, record: RunRecord) -> str:
    options = record.config["solver"]
    said = [f", and solver.{size} says {what}" for size, what in SIZES.items() if options.get(size) is not None]
    return "".join(["steps are fixed", *(said if name == "tolerance" else [])])
