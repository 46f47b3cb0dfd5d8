"""Model text as Markdown that shows what it says and does nothing.

A model's text is as untrusted as a page of the web: it may hold scripts, images that tell a
foreign server what was said, and links that run code. Notebooks render Markdown with HTML in it.

Renderers differ in where they see code and links, so nothing here rests on one reading: outside of
fenced blocks no ``<`` stays that could begin a tag, and a fenced block is written anew, in the form
that all of them read alike. Every bracket that could end in a link to anything but the web or a
mail is taken out of play.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["code_html", "escaped", "safe_markdown"]

_DEEPEST_QUOTE = 8
# Stand for the code spans while the rest is looked at; taken out of the text before.
_OPEN, _CLOSE = "\ue000", "\ue001"

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000\ue001]")
_INDENT = re.compile(r"[ \t]*")
_MARKER = r"(?:[-*+]|\d{1,9}[.)])"
_ITEM = re.compile(rf"[ \t]*{_MARKER}(?:[ \t]|$)")
_FENCE = re.compile(rf"(?P<before>[ \t]*(?:{_MARKER}[ \t]+)*)(?P<mark>`{{3,}}|~{{3,}})(?P<info>.*)")
_LANGUAGE = re.compile(r"[\w+#.-]{0,30}", re.ASCII)
_QUOTE = re.compile(r" {0,3}>")
_RUNS = re.compile(r"`+")
# What a renderer that sees no code span here could take for a tag, a link or an image.
_TELLING = re.compile(r"<[A-Za-z/!?]|\][(:\[]|!\[|&|\\|\$|~~~")

# Each of them ends where the next one could begin, so that no text takes long.
_URL = rf"""(?:(?:https?://|mailto:)[^\s"'<>\[\]\\`{_OPEN}]+|[^\s:&"'<>\[\]\\`{_OPEN}]+)"""
_BODY = rf"(?:(?!\n[ \t]*\n|\$\$|[`{_OPEN}]).)"
_SPECIAL = re.compile(
    rf"""
    (?P<display>\$\$(?P<display_body>{_BODY}{{1,2000}}?)\$\$)
    |(?P<inline>\$(?![\s$])(?P<inline_body>[^$`\n{_OPEN}]{{1,500}}?)(?<![\s\\])\$(?![\d$]))
    |(?P<round>(?<!\\)\\\((?P<round_body>(?:(?!\\[()]|[$`\n{_OPEN}]).){{1,500}})\\\))
    |(?P<square>(?<!\\)\\\[(?P<square_body>(?:(?!\\[\[\]]){_BODY}){{1,2000}})\\\])
    |(?P<environment>\\begin\{{(?P<name>[a-z]{{1,20}}\*?)\}}(?:(?!\\begin\{{(?P=name)\}}){_BODY}){{0,2000}}?\\end\{{(?P=name)\}})
    |(?P<command>\\(?=[A-Za-z]))
    |(?P<escape>\\[!-/:-@\[-`{{-~])
    |(?P<ampersand>&(?=\#|\w))
    |(?P<tag><(?=[A-Za-z/!?]))
    |(?P<tildes>~{{3,}})
    |(?P<literal>[`$])
    |(?P<image>!(?=\[))
    |(?P<link>\](?=\()(?!\(\)|\([ \t]*{_URL}[ \t)]))
    |(?P<definition>\](?=:)(?!:[ \t]*{_URL}(?:[ \t\n]|\Z)))
    """,
    re.VERBOSE | re.DOTALL,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});", re.ASCII)
# In a formula: what ends it or opens another thing in a renderer without formulas.
_FORMULAS = frozenset({"display", "inline", "round", "square", "environment"})
_NO_FORMULA = re.compile(
    r"\][(:\[]|!\[|&\#|&\w+;|~~~|\]\n|\\(?:href|url|require|style|cssId|class)"
)
_COMMANDS = re.compile(r"\\(?:begin|end|href|url|require|style|cssId|class|unicode|html\w*|data)")


def safe_markdown(text: str) -> str:
    """Return a model's text as Markdown without HTML, images or links that run code.

    Formatting, code, tables and formulas stay. A code block that is still open is closed.
    """
    text = _CONTROL.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = text.replace("\u2028", "\n").replace("\u2029", "\n")
    return "\n".join(_blocks(text.split("\n"), 0)).strip("\n")


def escaped(text: str) -> str:
    """Return text of which Markdown and HTML show every character as it is."""
    return "".join(
        one if one.isalnum() or one in " ,-.=" else f"&#{ord(one)};"
        for one in " ".join(text.split())
    )


def code_html(text: str) -> str:
    """Return text as an inline ``<code>``, for Markdown and for HTML."""
    return f"<code>{escaped(text)}</code>"


class _Lines:
    """The lines that are left, and what is known of where they stand."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0
        self.in_list = False
        # Columns that a block of code, moved to the margin, took from the rest of its item.
        self.moved = 0

    def take(self, wanted: Callable[[str], bool]) -> list[str]:
        """Take the lines up to the first one that is not wanted."""
        begin = self.at
        while self.at < len(self.lines) and wanted(self.lines[self.at]):
            self.at += 1
        return self.lines[begin : self.at]

    def blank_before(self) -> bool:
        return self.at == 0 or not self.lines[self.at - 1].strip()


def _blocks(lines: list[str], depth: int) -> Iterator[str]:
    left = _Lines(lines)
    prose: list[str] = []
    while left.at < len(lines):
        line = lines[left.at]
        block = _block(left, line, depth)
        if block is None:
            prose.append(_placed(left, line))
            left.at += 1
            continue
        yield from _prose(prose)
        prose = []
        yield from block
    yield from _prose(prose)


def _block(left: _Lines, line: str, depth: int) -> list[str] | None:
    """Return the quote or the block of code that begins here, written anew; None for prose."""
    if (fence := _FENCE.match(line)) and not (fence["mark"][0] == "`" and "`" in fence["info"]):
        return _fenced(left, fence)
    if _QUOTE.match(line) and depth < _DEEPEST_QUOTE:
        quoted = left.take(lambda one: _QUOTE.match(one) is not None)
        inner = [_QUOTE.sub("", one, count=1).removeprefix(" ") for one in quoted]
        return [f"> {one}".rstrip() for one in _blocks(inner, depth + 1)]
    if _columns(line) >= 4 and line.strip() and not left.in_list and left.blank_before():
        body = left.take(lambda one: _columns(one) >= 4 or not one.strip())
        return _code("", [_dedented(one, 4) for one in body])
    return None


def _fenced(left: _Lines, fence: re.Match[str]) -> list[str]:
    mark, before = fence["mark"], fence["before"]
    indent = _columns(before)
    left.at += 1

    def inside(line: str) -> bool:
        bare = line.strip()
        closes = len(bare) >= len(mark) and not bare.strip(mark[0])
        return not (closes and _columns(line) < len(before) + 4)

    body = left.take(inside)
    left.at += 1
    left.moved = len(before) if left.in_list or before.strip() else 0
    language = _LANGUAGE.match(fence["info"].strip())
    block = _code(
        language[0] if language else "", [_dedented(one, max(indent, len(before))) for one in body]
    )
    if before.strip():
        left.in_list = True
        return [before.rstrip(), *block]
    return block


def _code(language: str, body: list[str]) -> list[str]:
    """Return a fenced block at the margin, with a fence that nothing in it can close."""
    while body and not body[-1].strip():
        body = body[:-1]
    longest = max((len(run) for line in body for run in _RUNS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return ["", fence + language, *body, fence, ""]


def _columns(line: str) -> int:
    indent = _INDENT.match(line)
    return len(indent[0].expandtabs(4)) if indent else 0


def _dedented(line: str, columns: int) -> str:
    take = 0
    while take < len(line) and line[take] in " \t" and _columns(line[: take + 1]) <= columns:
        take += 1
    return line[take:]


def _placed(left: _Lines, line: str) -> str:
    """Take note of lists, and put a line at the place that it had beside a moved block."""
    if not line.strip():
        return line
    if _columns(line) < left.moved:
        left.moved = 0
    if _ITEM.match(line):
        left.in_list = True
    elif not _columns(line) and left.blank_before():
        left.in_list = False
    return _dedented(line, left.moved)


def _prose(lines: list[str]) -> list[str]:
    """Return lines that are no blocks of code, made safe."""
    if not lines:
        return []
    spans: list[str] = []
    text = "".join(_defused("\n".join(_without_spans(line, spans) for line in lines)))
    text = re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda found: spans[int(found[1])], text)
    return text.split("\n")


def _without_spans(line: str, spans: list[str]) -> str:
    """Take the code spans out of a line; of two readings of the backticks the first one counts."""
    runs = list(_RUNS.finditer(line))
    if not runs:
        return line
    later: dict[int, list[int]] = {}
    for index in range(len(runs) - 1, -1, -1):
        later.setdefault(len(runs[index][0]), []).append(index)
    parts, done, index = [], 0, 0
    while index < len(runs):
        run = runs[index]
        same = later[len(run[0])]
        while same and same[-1] <= index:
            same.pop()
        before = line[done : run.start()]
        if not same or (len(before) - len(before.rstrip("\\"))) % 2:
            index += 1
            continue
        closing = runs[same[-1]]
        parts += [before, f"{_OPEN}{len(spans)}{_CLOSE}"]
        spans.append(_span(run[0], line[run.end() : closing.start()]))
        done, index = closing.end(), same[-1] + 1
    return "".join([*parts, line[done:]])


def _span(mark: str, code: str) -> str:
    if not _TELLING.search(code) and "|" not in code:
        return f"{mark}{code}{mark}"
    if code.startswith(" ") and code.endswith(" ") and code.strip():
        code = code[1:-1]
    return code_html(code)


def _defused(text: str) -> Iterator[str]:
    done = 0
    while found := _SPECIAL.search(text, done):
        yield text[done : found.start()]
        kind, done = found.lastgroup or "", found.end()
        if kind not in _FORMULAS:
            yield _harmless(kind, found)
        elif _NO_FORMULA.search(found[0]):
            # Its inside is looked at as all else.
            done = found.start() + 1
            yield "\\$" if found[0][0] == "$" else "&#92;"
        else:
            yield _formula(kind, found)
    yield text[done:]


def _harmless(kind: str, found: re.Match[str]) -> str:
    text = found[0]
    if kind == "command":
        return "&#92;" if _COMMANDS.match(found.string, found.start()) else text
    if kind == "escape":
        # A renderer of formulas reads two backslashes and a bracket as the begin of one.
        return text if text[1] not in "<&`~\\" else f"&#{ord(text[1])};"
    if kind == "ampersand":
        return text if _ENTITY.match(found.string, found.start()) else "&amp;"
    # No backslash in their place: there is a renderer that does not heed it in a link's text.
    return "\\$" if text == "$" else "".join(f"&#{ord(one)};" for one in text)


def _formula(kind: str, found: re.Match[str]) -> str:
    body = found[0] if kind == "environment" else found[f"{kind}_body"]
    body = re.sub(r"<(?=[A-Za-z/!?])", r"\\lt ", body)
    if kind == "environment":
        return body
    return f"${body.strip()}$" if kind in ("inline", "round") else f"$${body}$$"
