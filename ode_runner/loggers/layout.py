"""The cards of TensorBoard's Custom Scalars page: training and evaluation of one quantity on one, diagnostics last."""

import re
from collections.abc import Collection

QUALITY = ("train", "eval")  # prefixes of one quantity each, in training and on validation
TOGETHER = {"nfe": "evaluations per batch", "loss": "terms of the loss"}  # prefixes whose tags share a card
CATEGORIES = {  # by prefix of a tag
    **dict.fromkeys((*QUALITY, "loss"), "quality"),
    **dict.fromkeys(("nfe", "solver"), "evaluations"),
    "optim": "optimizer",
    **dict.fromkeys(("time", "memory"), "cost"),
}
LAST = "diagnostics"  # of all other prefixes
ONCE = "test"  # measured at the end alone: a curve of one point

Layout = dict[str, dict[str, list[object]]]


def layout(tags: Collection[str]) -> Layout:
    """Category, card, and the tags on it, as SummaryWriter.add_custom_scalars takes them."""
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
    """The loss first, then by quantity, training before validation."""
    prefix, _, name = tag.partition("/")
    return (name != "loss", name, "" if prefix == QUALITY[0] else prefix)
