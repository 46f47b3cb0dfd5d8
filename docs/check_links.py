"""Check the links of built pages: ``python docs/check_links.py BUILD``.

Every link within the pages must have its file and its anchor; pictures and style sheets must be
there. Links to other places are not followed: they must be https, with a host.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["wrong_links"]


class _Page(HTMLParser):
    """Where a page leads, and where in it one can be led."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.add(value)
            elif value and name == "id":
                self.anchors.add(value)


def wrong_links(folder: Path) -> list[str]:
    """Return what is wrong with the links of all pages under a folder, a line each."""
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}
    wrong = []
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            if problem := _problem(link, path, pages):
                wrong.append(f"{path.relative_to(folder.resolve())}: {link}: {problem}")
    return wrong


def _problem(link: str, path: Path, pages: dict[Path, _Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme in ("data", "mailto"):
        return None
    if parts.scheme or parts.netloc:
        good = parts.scheme == "https" and "." in (parts.hostname or "")
        return None if good else "not https, or without a host"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    if target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "no such anchor"
    return None


def main() -> int:
    """Check a folder."""
    wrong = wrong_links(Path(sys.argv[1]))
    sys.stdout.write("\n".join([*wrong, f"{len(wrong)} links that lead nowhere", ""]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
