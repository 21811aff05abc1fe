"""Typed words without effect: neither the solver nor the gradient mode reads them, or nothing is trained."""

from collections.abc import Collection, Iterator, Sequence

from ode_runner.recording.record import UNUSED, RunRecord

READ_AS = {"tolerance": "rtol", "per_sample": "per_sample"}  # the option of solver or gradient mode that reads it
SIZES = {"num_steps": "how many", "step_size": "how long"}  # options of fixed steps, and what they say

LEARNING = ("optimizer", "schedule")  # groups that affect only training
BUDGETS = ("epochs", "max_steps", "max_seconds", "max_nfe", "patience", "accumulate", "max_grad_norm")  # of the trainer
STEPS = ("batch_size", "ema", "audit_every", "pictures_every")  # further options of the trainer


def is_of_training(word: str, *, groups: Collection[str], options: Collection[str]) -> bool:
    """Whether an override belongs to one of `groups`, or is one of the trainer's `options`."""
    group, _, option = word.lstrip("+~").partition("=")[0].partition(".")
    return group in groups or (group == "trainer" and option in options)


def untrained_words(words: Sequence[str]) -> Iterator[str]:
    """For a run that learns nothing: a clause for each typed override that affects only training."""
    for word in words:
        if is_of_training(word, groups=LEARNING, options=(*BUDGETS, *STEPS)) and not word.endswith("=null"):
            yield f"{word} is not used: nothing is learned"


def unread_words(words: Sequence[str], record: RunRecord) -> Iterator[str]:
    """A clause for each typed `tolerance` or `per_sample` that neither solver nor gradient mode reads."""
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
