"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from ._measure import Figure

__all__ = ["ratio_row", "table"]


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out under a title; the first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def lay(line: Sequence[str]) -> str:
        first = f"{line[0]:<{widths[0]}}"
        rest = (f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([first, *rest])

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([title, rule, lay(header), rule, *map(lay, rows), rule])


def ratio_row(name: str, figure: Figure, base: Figure) -> list[str]:
    """Return a peer's row: median, spread, ratio to the base."""
    return [
        name,
        f"{figure.median:.0f}",
        f"± {figure.spread:.0f}",
        f"{figure.median / base.median:.2f}",
    ]
