"""Yaml in a run folder is read as data, whatever somebody has put there."""

import time
from pathlib import Path

import pytest

from ode_runner.errors import RefusedInput
from ode_runner.recording.stored_command import OVERRIDES, stored_overrides, stored_yaml, write_command

BAD = {
    "torn": "- 'a=b\n- c",
    "empty": "",
    "a tag": "!!python/object/apply:os.getcwd []\n",
    "a tag of one word": "- model=odenet\n- !!python/name:os.system\n",
    "a tab": "a:\n\t- b\n",
    "a number": "42\n",
    "a mapping": "a: 1\n",
    "mappings": "- model: odenet\n",
    "lists": "- [model=odenet]\n",
    "aliases": "- &a model=odenet\n- *a\n",
    "aliases of aliases": "".join(
        f"{name}: &{name} {f'[{other}, {other}]' if other else 'x'}\n"
        for name, other in [("a", ""), *((chr(98 + i), f"*{chr(97 + i)}") for i in range(24))]
    ),
    "merges": "a: &a {k: 1}\n"
    + "".join(f"b{i}: &b{i}\n  <<: [*{o}, *{o}]\n" for i, o in enumerate(["a"] + [f"b{i}" for i in range(30)])),
    "two documents": "- a=1\n---\n- b=1\n",
    "deep": "[" * 100_000,
    "deep blocks": "- " * 90_000,
    "long": "- a=1\n" * 100_000,
    "digits that int() refuses": "a: " + "9" * 5000,
    "a day that is none": "- [2020-99-99]\n",
}


def folder_with(content: bytes, root: Path) -> Path:
    (root / OVERRIDES).parent.mkdir()
    (root / OVERRIDES).write_bytes(content)
    return root


@pytest.mark.parametrize("kind", [*BAD, "no utf-8", "zeros"])
def test_what_is_no_list_of_texts_is_refused_in_one_line_and_at_once(kind: str, tmp_path: Path) -> None:
    content = BAD[kind].encode() if kind in BAD else {"no utf-8": b"- \xff\xfe=1", "zeros": bytes(500)}[kind]
    folder, begun = folder_with(content, tmp_path), time.monotonic()
    with pytest.raises(RefusedInput) as refused:
        stored_overrides(folder)
    assert time.monotonic() - begun < 5
    assert str(folder / OVERRIDES) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_folder_in_its_place_and_nothing_at_all_are_refused_too(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="there is no such file"):
        stored_overrides(tmp_path)
    (tmp_path / OVERRIDES).mkdir(parents=True)
    with pytest.raises(RefusedInput, match="it is no file"):
        stored_overrides(tmp_path)


def test_words_stay_what_was_typed(tmp_path: Path) -> None:
    words = "- model=odenet\n- 1e-3\n- null\n- 'a: b'\n- true\n- 2020-99-99\n- \"tab\\t\"\n"
    assert stored_overrides(folder_with(words.encode(), tmp_path)) == [
        *("model=odenet", "1e-3", "null", "a: b", "true", "2020-99-99", "tab\t")
    ]


def test_other_yaml_is_read_as_yaml_but_for_tags_and_aliases(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: {b: [1, true, x]}\n")
    assert stored_yaml(tmp_path / "a.yaml") == {"a": {"b": [1, True, "x"]}}
    for kind in ("a tag", "aliases", "merges", "deep", "digits that int() refuses"):
        (tmp_path / "a.yaml").write_text(BAD[kind])
        with pytest.raises(RefusedInput, match=r"a\.yaml"):
            stored_yaml(tmp_path / "a.yaml")


def test_what_is_written_replaces_links_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "overrides.yaml").write_text("mine")
    linked, files = tmp_path / "linked", {"overrides.yaml": "- seed=1\n"}
    (linked / ".hydra").mkdir(parents=True)
    (linked / ".hydra" / "overrides.yaml").symlink_to(outside / "overrides.yaml")
    write_command(linked, files)
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / ".hydra").symlink_to(outside)
    write_command(tmp_path / "whole", files)
    assert (outside / "overrides.yaml").read_text() == "mine"
    assert stored_overrides(linked) == stored_overrides(tmp_path / "whole") == ["seed=1"]
