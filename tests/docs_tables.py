"""The tables of the pages of ``docs/``, read, for a comparison with the code."""

from __future__ import annotations

import re

from tests.docs_pages import DOCS

__all__ = ["cells", "described_fields", "first_words"]


def cells(page: str, columns: int) -> list[list[str]]:
    """Return the rows of the list-tables of a page that have so many columns, heads included."""
    text = (DOCS / page).read_text("utf-8")
    rows = re.findall(r"^   \* - (.*\n(?:     .*\n|\n(?=       ))*)", text, re.MULTILINE)
    split = [re.split(r"^     - ", row, flags=re.MULTILINE) for row in rows]
    return [[cell.strip() for cell in row] for row in split if len(row) == columns]


def described_fields() -> dict[str, tuple[str, str, str]]:
    """Return variable, default and unit of each field on the page about configuration."""
    found = {}
    for field, default, _ in cells("configuration.rst", 3):
        names = re.findall(r"``(\w+)``", field)
        if not names:
            continue
        value, _, unit = default.partition("\n")
        key = names[1] if len(names) > 1 else f"TERMAI_HTTP_{names[0].upper()}"
        found[key] = (names[0], value.strip("`"), unit.strip())
    return found


def first_words(page: str, begin: str) -> list[str]:
    """Return what stands first in the rows of the simple table after some words of a page."""
    text = (DOCS / page).read_text("utf-8").partition(begin)[2]
    rows = re.split(r"^=+ [= ]+\n", text, flags=re.MULTILINE)
    return re.findall(r"^``([\w.]+)``", "".join(rows[1:3]), re.MULTILINE)
