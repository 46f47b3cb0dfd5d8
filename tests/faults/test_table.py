"""``docs/faults.rst`` says what the catalogue says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults import catalogue

PAGE = Path(__file__).parents[2] / "docs" / "faults.rst"


def _words(text: str) -> str:
    """Make all white space one blank."""
    return " ".join(text.split())


def _plain(text: str) -> str:
    """Take back the escapes of the page as well."""
    return _words(re.sub(r"\\(.)", r"\1", text))


def _rows_of_the_page() -> dict[str, list[str]]:
    """Return the cells of each row after its number."""
    blocks = re.findall(r"^   \* - (F\d\d)\n((?: {5}.*\n)+)", PAGE.read_text("utf-8"), re.MULTILINE)
    return {
        number: [_plain(cell) for cell in re.split(r"^ {5}- ", block, flags=re.MULTILINE)[1:]]
        for number, block in blocks
    }


def test_the_page_has_every_row_as_the_catalogue_words_it() -> None:
    """Each row stands in docs/faults.rst with its own fault and promise, and none other does."""
    said = {number: cells[:2] for number, cells in _rows_of_the_page().items()}
    worded = {row.number: [_words(row.fault), _words(row.promise)] for row in catalogue.rows()}
    assert said == worded, "mend it with: python -m benchmarks.faults --write docs/faults.rst"


def test_the_page_gives_the_argument_of_every_row_that_has_one() -> None:
    """A promise that differs from the first list is argued in docs/faults.rst."""
    said = _plain(PAGE.read_text("utf-8"))
    argued = [f"- {row.number}: {_words(row.argument)}" for row in catalogue.rows() if row.argument]
    assert [argument for argument in argued if argument not in said] == []
