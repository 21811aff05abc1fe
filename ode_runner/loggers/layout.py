"""The cards of TensorBoard's Custom Scalars page: one per quantity, for training and evaluation; diagnostics last."""

import re
from collections.abc import Collection

QUALITY = ("train", "eval")  # a quantity has one tag with each prefix: in training, and on the validation split
TOGETHER = {"nfe": "evaluations per batch", "loss": "terms of the loss"}  # prefixes whose tags all share one card
CATEGORIES = {  # by prefix of a tag
    **dict.fromkeys((*QUALITY, "loss"), "quality"),
    **dict.fromkeys(("nfe", "solver"), "evaluations"),
    "optim": "optimizer",
    **dict.fromkeys(("time", "memory"), "cost"),
}
LAST = "diagnostics"  # category of all other prefixes
ONCE = "test"  # measured only at the end: its curve would be a single point

Layout = dict[str, dict[str, list[object]]]


def layout(tags: Collection[str]) -> Layout:
    """The tags on each card of each category, in the format of SummaryWriter.add_custom_scalars."""
    cards: dict[str, dict[str, list[str]]] = {name: {} for name in (*dict.fromkeys(CATEGORIES.values()), LAST)}
    for tag in sorted(tags, key=_order):
        prefix, _, name = tag.partition("/")
        if prefix != ONCE:
            category = cards[CATEGORIES.get(prefix, LAST)]
            category.setdefault(TOGETHER.get(prefix, name.replace("_", " ")), []).append(tag)
    return {
        category: {title: ["Multiline", [f"^{re.escape(tag)}$" for tag in shown]] for title, shown in own.items()}
        for category, own in cards.items()
        if own
    }


def _order(tag: str) -> tuple[bool, str, str]:
    """Sort key: the loss first, then by quantity, with training before validation."""
    prefix, _, name = tag.partition("/")
    return (name != "loss", name, "" if prefix == QUALITY[0] else prefix)
