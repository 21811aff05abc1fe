"""The README says what is so."""

from pathlib import Path

from tests.readme import matrix

README = Path(__file__).parents[1] / "README.md"


def test_the_table_of_what_goes_together_is_the_generated_one() -> None:
    assert matrix() in README.read_text(encoding="utf-8")
