"""Texts of files: pieces, vocabulary, distributions that count, and what is refused."""

import math
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.texts.char_text import CharText
from ode_runner.tasks.texts.ngrams import NGrams
from ode_runner.tasks.texts.text_file import PYTHON_HELP, UNKNOWN, content_of_text, python_help, read_text

TEXT = "the quick brown fox jumps over the lazy dog. " * 20


def task(path: Path, text: str = TEXT, **options: Any) -> CharText:
    path.write_text(text, encoding="utf-8")
    usual = {"file": str(path), "unit": "characters", "length": 8, "unknown": "map", "validation": 0.1, "test": 0.1}
    return CharText(**{**usual, "samples": 4, "seed": 0, "device": torch.device("cpu"), **options})


def test_pieces_are_of_the_text_in_three_parts_and_are_written_as_they_stand(tmp_path: Path) -> None:
    made = task(tmp_path / "a.txt")
    assert made.words == sorted(set(TEXT))
    end = round(0.9 * len(TEXT))
    test = "".join(made.written(piece) for piece in made.texts[Split.TEST].tolist())
    assert test == TEXT[end : end + len(test)]
    assert len(TEXT) - end - len(test) < 8
    assert all(made.written(piece) in TEXT for piece in made.texts[Split.TRAIN].tolist())
    assert len(made.texts[Split.TRAIN]) == (round(0.8 * len(TEXT)) - 8) // 4 + 1
    assert made.with_blanks("the ░░░░").tolist()[4:] == [len(made.words)] * 4
    assert float(made.of_bound(torch.tensor(8 * math.log(2)))["bits_per_char"]) == pytest.approx(1)


def test_what_training_has_not_seen_is_one_token_that_is_said_or_refused(tmp_path: Path) -> None:
    text = TEXT + "\N{SNOWMAN}\N{COMET} the end of it"
    made = task(tmp_path / "a.txt", text)
    assert made.words[-1] == UNKNOWN
    assert f"2 characters of the other parts, 2 different ones, do not occur there, and become {UNKNOWN}" in list(
        made.introduction()
    )
    with pytest.raises(RefusedInput, match=r"task.unknown=refuse, and 2 of the characters .* Use task.unknown=map"):
        task(tmp_path / "a.txt", text, unknown="refuse")


def test_bytes_are_any_files(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    made = task(path, "äöü" * 200, unit="bytes")
    assert made.words == ["¤", "¶", "¼", "Ã"]
    path.write_bytes(b"\xff" * 400)
    with pytest.raises(RefusedInput, match=r"no text in UTF-8: its byte 0 begins no character. Use task.unit=bytes"):
        CharText(
            file=str(path), unit="characters", length=8, unknown="map", validation=0.1, test=0.1, samples=4, seed=0,
            device=torch.device("cpu"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"file": "nowhere.txt"}, "nowhere.txt: there is no such file. Type its path, or python_help"),
        ({"length": 100}, "of which 90 are for validation: too few for two pieces of task.length=100"),
        ({"unit": "words"}, "task.unit must be characters or bytes, not words"),
        ({"unknown": "drop"}, "task.unknown must be map or refuse"),
        ({"test": 0.95}, "must leave some of it for training"),
        ({"length": 1}, "task.length"),
        ({"file": "ones.txt"}, "ones.txt is one character again and again: there is nothing to learn"),
    ],
)
def test_senseless_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ones.txt").write_text("1" * 1000)
    with pytest.raises(RefusedInput, match=sentence):
        task(tmp_path / "a.txt", **options)


def test_a_hash_tells_texts_apart_and_pythons_help_has_one(tmp_path: Path) -> None:
    one, other = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("a"), other.write_text("a")
    assert content_of_text(str(one)) == content_of_text(str(other)) == CharText.contents({"file": str(one)})["file"]
    other.write_text("b")
    assert content_of_text(str(one)) != content_of_text(str(other))
    assert content_of_text("nowhere.txt") is None
    assert len(content_of_text(PYTHON_HELP) or "") == 12


def test_a_python_without_the_texts_of_its_help_takes_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    python_help.cache_clear()
    with pytest.raises(RefusedInput, match=r"comes without the texts of its help \(pydoc_data\). Type the path"):
        task(tmp_path / "a.txt", file=PYTHON_HELP)
    assert content_of_text(PYTHON_HELP) is None
    assert task(tmp_path / "a.txt").words == sorted(set(TEXT))


def test_laws_that_count_are_witten_and_bells() -> None:
    """After a come b and b; of three tokens, one of which never occurs."""
    texts = torch.tensor([[0, 1, 0, 1]])
    counted = NGrams(texts, tokens=3, order=2)
    alone = (2 + 2 / 3) / (4 + 2)  # of a, and of b
    assert counted.bits(torch.tensor([[0]]), order=1) == pytest.approx(-math.log2(alone))
    after = (2 + alone) / (2 + 1)  # of b after a
    assert counted.bits(torch.tensor([[0, 1]]), order=2) == pytest.approx(-(math.log2(alone) + math.log2(after)) / 2)
    never = (2 / 3) / 6
    distributions = [2 ** -counted.bits(torch.tensor([[token]]), order=1) for token in range(3)]
    assert distributions[2] == pytest.approx(never)
    assert sum(distributions) == pytest.approx(1)


def exact_bits(learned: Sequence[str], judged: Sequence[str], *, tokens: int, order: int) -> float:
    """The same by searching the texts for every context, in fractions."""

    def distribution(token: str, context: str) -> Fraction:
        shorter = distribution(token, context[1:]) if context else Fraction(1, tokens)
        places = [(text, i) for text in learned for i in range(len(context), len(text))]
        after = [text[i] for text, i in places if text[i - len(context) : i] == context]
        different = len(set(after))
        return (after.count(token) + different * shorter) / (len(after) + different) if after else shorter

    each = [distribution(text[i], text[max(0, i - order + 1) : i]) for text in judged for i in range(len(text))]
    return -sum(math.log2(p) for p in each) / len(each)


def test_bits_beside_a_run_are_those_of_an_exact_count(tmp_path: Path) -> None:
    made = task(tmp_path / "a.txt", "abracadabra simsalabim " * 8 + "abba", length=6)
    judged, learned = (
        [made.written(text) for text in made.texts[split].tolist()] for split in (Split.TEST, Split.TRAIN)
    )
    found = made.baselines()
    assert list(found) == ["unigram_bits", "bigram_bits", "trigram_bits", "fourgram_bits", "fivegram_bits"]
    for order, name in enumerate(found, start=1):
        assert found[name] == pytest.approx(exact_bits(learned, judged, tokens=len(made.words), order=order), rel=1e-12)


MEASURED = "2a95af4ac93f"  # the hash of the help texts of Python 3.11, of which the values below are
BITS = [4.12, 3.37, 2.58, 1.99, 1.85, 1.90]  # by 0 to 5 characters before, of the last tenth


@pytest.mark.slow
@pytest.mark.skipif(content_of_text(PYTHON_HELP) != MEASURED, reason="another Python has other help texts")
def test_bits_of_pythons_help_are_those_that_were_measured_elsewhere() -> None:
    """Of small letters with a space for all else, each distribution by the first nine tenths."""
    folded = re.sub("[^a-z]+", " ", read_text(PYTHON_HELP, "characters").lower())
    assert len(folded) == 375_757
    tokens = torch.tensor([" abcdefghijklmnopqrstuvwxyz".index(letter) for letter in folded])
    learned, judged = tokens.tensor_split([round(0.9 * len(tokens))])
    counted = NGrams(learned[None], tokens=27, order=len(BITS))
    found = [counted.bits(judged[None], order=order) for order in range(1, len(BITS) + 1)]
    assert found == pytest.approx(BITS, abs=0.08)
    assert min(found) == found[4], "the fifth is the best, with which a model has to be compared"
