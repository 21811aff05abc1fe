"""What is written faster is what OmegaConf writes."""

import pytest
from omegaconf import OmegaConf

from ode_runner.config.yaml_text import to_yaml
from tests.conftest import Compose

AWKWARD = [
    "1e-3",
    "nan",
    "inf",
    "null",
    "true",
    "on",
    "~",
    "",
    "1_0",
    "0x1F",
    "12:30",
    "2026-11-28",
    "- x",
    "a: b",
    "#c",
]
AWKWARD += [
    " before",
    "after ",
    "é",
    "word " * 60,
    "it's",
    '"',
    "two\nlines",
    "a\ttab",
    "${x}",
    "%a",
    "=",
    "<<",
    ".5",
    "+3",
]


@pytest.mark.parametrize("words", [(), ("task=digits", "schedule=one_cycle", "solver.rtol=1e-3", "seed=3")])
def test_the_text_is_the_same(words: tuple[str, ...], composed: Compose) -> None:
    cfg = composed(*words)
    for content in (cfg, cfg.hydra, cfg.hydra.overrides.task):
        assert to_yaml(content) == OmegaConf.to_yaml(content)
    plain = OmegaConf.to_container(cfg.task)
    assert to_yaml(plain) == OmegaConf.to_yaml(cfg.task)


def test_texts_stay_texts() -> None:
    awkward = OmegaConf.create([*AWKWARD, 1e-3, 7, None, True])
    assert to_yaml(awkward) == OmegaConf.to_yaml(awkward)
    assert OmegaConf.create(to_yaml(OmegaConf.create(["\U0001f600"]))) == ["\U0001f600"]
