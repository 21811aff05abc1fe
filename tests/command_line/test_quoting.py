"""Values in messages stand as they were typed."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from ode_runner.errors import MOST_SIGNS, as_typed


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (True, "true"),
        (None, "null"),
        (0.001, "0.001"),
        ("abc", "abc"),
        ("", ""),
        ("1", "'1'"),
        ("True", "'True'"),
        ("nan", "'nan'"),
        ("a b", "'a b'"),
        ([1, True, [None, "a"]], "[1,true,[null,a]]"),
        ((1.0, 2.0), "[1.0,2.0]"),
        ({"a": False}, "{a:false}"),
        (OmegaConf.create([True, {"a": None}]), "[true,{a:null}]"),
        (object(), "object"),
    ],
)
def test_as_typed(value: Any, typed: str) -> None:
    assert as_typed(value) == typed


def test_what_is_long_is_cut_short() -> None:
    assert as_typed([0] * 1000) == f"{str([0] * 1000).replace(' ', '')[:MOST_SIGNS]}..."
