"""Tables for people: as text, in Markdown, in reStructuredText."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import attrs

from ._measure import Figure

__all__ = ["NOTHING", "Table", "number", "spread"]

NOTHING = "-"


def number(value: float | None, digits: int = 0, scale: float = 1.0) -> str:
    """Return a number for a cell."""
    return NOTHING if value is None else f"{value * scale:,.{digits}f}"


def spread(figure: Figure | None, digits: int = 0, scale: float = 1.0) -> list[str]:
    """Return the cells of a figure: its median, its spread."""
    if figure is None:
        return [NOTHING, NOTHING]
    half = "" if figure.spread is None else "± " + number(figure.spread, digits, scale)
    return [number(figure.median, digits, scale), half]


@attrs.frozen
class Table:
    """Rows under a title; the first column to the left, the others to the right.

    Attributes:
        title: What it is.
        header: Names of the columns.
        rows: The cells.
        note: What one should know to read it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def _widths(self) -> list[int]:
        lines = [self.header, *self.rows]
        return [max(len(line[column]) for line in lines) for column in range(len(self.header))]

    def _lay(self, line: Sequence[str]) -> str:
        widths = self._widths()
        rest = (f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([f"{line[0]:<{widths[0]}}", *rest]).rstrip()

    def text(self) -> str:
        """Return it for a terminal."""
        widths = self._widths()
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [self.title, rule, self._lay(self.header), rule, *map(self._lay, self.rows), rule]
        return "\n".join(lines + ([self.note] if self.note else []))

    def markdown(self) -> str:
        """Return it for a Markdown page."""
        rule = ["---", *["--:"] * (len(self.header) - 1)]
        lines = [f"| {' | '.join(line)} |" for line in (self.header, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *(["", self.note] if self.note else [])])

    def rst(self) -> str:
        """Return it for a page in reStructuredText."""
        rule = "  ".join("=" * width for width in self._widths())
        body = [rule, self._lay(self.header), rule, *map(self._lay, self.rows), rule]
        head = [self.title, "~" * len(self.title), ""]
        note = ["", *textwrap.wrap(self.note, 99)] if self.note else []
        return "\n".join([*head, *body, *note])
