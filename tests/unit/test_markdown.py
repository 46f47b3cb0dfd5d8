"""A model's Markdown, read by real renderers: what it says is there, and it does nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import hypothesis
import hypothesis.strategies as st
import markdown_it
import mistune
import pytest

from termai_http._markdown import code_html, escaped, safe_markdown

# What is left of a text may hold these, and no other tag.
TAGS = {
    *("p", "em", "strong", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "br", "a", "del"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "s"),
    *("section", "sup"),
}
ATTRIBUTES = {"href", "title", "class", "id", "start", "style"}
FORMATTED = [
    ("# Title\n\nText with *some* **weight**.", ["<h1>Title</h1>", "<em>some</em>", "<strong>"]),
    ("- one\n- two\n  - three\n\n1. first", ["<li>one", "<li>three", "<ol>"]),
    ("| a | b |\n|---|---|\n| 1 | 2 |", ["<table>", "<td>2</td>"]),
    ("> said\n> again", ["<blockquote>", "said"]),
    (
        "see [this](https://e.com/a?b=1&c=2) page",
        ['<a href="https://e.com/a?b=1&amp;c=2">this</a>'],
    ),
    ("write to [me](mailto:a@b.example)", ['<a href="mailto:a@b.example">me</a>']),
    ("```python\nif a < b:\n    print('<b>')\n```", ["<pre><code", "if a &lt; b:", "&lt;b&gt;"]),
    ("use `a < b` and `<b>` here", ["<code>a &lt; b</code>", "<code>&lt;b&gt;</code>"]),
    ("a < b and c > d, R&D, &copy;", ["a &lt; b and c &gt; d, R&amp;D, \xa9"]),
    ("~~gone~~ text", ["gone</"]),
    ("1. step\n   ```sh\n   ls <x>\n   ```\n2. next", ["ls &lt;x&gt;", "next"]),
    ("    indented <b>", ["<pre><code>indented &lt;b&gt;"]),
]
ATOMS = [
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![x](http://e.example/x.png)"),
    *("[a](javascript:alert(1))", "[a](<javascript:alert(1)>)", "[a](java&#115;cript:alert(1))"),
    *("[a](data:text/html,x)", "[a]: javascript:alert(1)\n", "[a]:\n  <javascript:alert(1)>\n"),
    *("[a][a]", "[a]", "![a][b]", "[b]: http://e.example/x.png\n", "<javascript:alert(1)>"),
    *("<svg/onload=alert(1)>", "<!--", "-->", "<![CDATA[", "<?php", "</small>", "`", "``", "```"),
    *("```html\n", "\n```\n", "~~~\n", "\n~~~", "$", "$$", "\\(", "\\)", "\\[", "\\]", "\\", "\n"),
    *("\n\n", "    ", "  ", "\t", "> ", "- ", "1. ", "|", "a|b\n-|-\n", "# ", "*", "_", "!", "["),
    *("]", "(", ")", "<", ">", "&", "&lt;script&gt;", "&#60;img src=x onerror=alert(1)&#62;"),
    *("x", "word ", "\u2028", "\x0b", "\r", "\0", "\ue0000\ue001", "\\begin{a}", "\\end{a}"),
    *("\\href{javascript:alert(1)}{x}", "[^1]", "[^1]: <b onclick=alert(1)>x</b>\n", "\n    <b>"),
    *('[a](/x "t" onclick=alert(1))', '[x](http://a"onclick=alert(1) )', "\n- ```\n", "@@0@@"),
]


def renderers() -> dict[str, Callable[[str], str]]:
    """Return renderers that let HTML through, as those of notebooks do."""
    common = markdown_it.MarkdownIt("commonmark")
    tables = markdown_it.MarkdownIt("js-default", {"html": True})
    plugins = ["table", "footnotes", "strikethrough", "url"]
    other = mistune.create_markdown(escape=False, plugins=plugins)
    return {
        "commonmark": common.render,
        "tables": tables.render,
        "mistune": lambda text: str(other(text)),
    }


RENDERERS = renderers()


class Judge(HTMLParser):
    """Finds what a page of a model's text must not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag and its attributes."""
        if tag not in TAGS:
            self.found.append(tag)
        for name, value in attrs:
            if name not in ATTRIBUTES or (name == "href" and not harmless(value or "")):
                self.found.append(f"{name}={value}")

    def handle_comment(self, data: str) -> None:
        """Comments hide text."""
        self.found.append("comment")

    def unknown_decl(self, data: str) -> None:
        """So do other declarations."""
        self.found.append("declaration")

    def handle_decl(self, decl: str) -> None:
        """So do doctypes."""
        self.found.append("doctype")

    def handle_pi(self, data: str) -> None:
        """So do instructions."""
        self.found.append("instruction")


def harmless(url: str) -> bool:
    """Tell whether a link leads to the web, to mail or within the page."""
    scheme = re.match(r"[\x00-\x20]*([A-Za-z][\w+.-]*):", url)
    return scheme is None or scheme[1].lower() in ("http", "https", "mailto")


def wrong(html: str) -> list[str]:
    """Return what a page must not hold."""
    judge = Judge()
    judge.feed(html)
    judge.close()
    return judge.found


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize(("text", "wanted"), FORMATTED)
def test_formatting_stays(renderer: str, text: str, wanted: list[str]) -> None:
    """Headings, lists, tables, quotes, code and links of a reply are shown as such."""
    if renderer == "commonmark" and ("|" in text or "~~" in text):
        wanted = []
    html = RENDERERS[renderer](safe_markdown(text))
    for part in wanted:
        assert part in html
    assert wrong(html) == []


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("atom", ATOMS)
def test_one_attack_does_nothing(renderer: str, atom: str) -> None:
    """Scripts, images, links that run code and raw HTML are shown as text, wherever they stand."""
    for text in (
        atom,
        f"> {atom}",
        f"- {atom}",
        f"a\n{atom}",
        f"*{atom}*",
        f"\\{atom}",
        f"`{atom}",
    ):
        assert wrong(RENDERERS[renderer](safe_markdown(text))) == []


@hypothesis.given(st.lists(st.sampled_from(ATOMS), max_size=12).map("".join))
@hypothesis.settings(max_examples=300)
def test_no_mixture_of_attacks_does_anything(text: str) -> None:
    """However the pieces stand together, all renderers see text."""
    safe = safe_markdown(text)
    for render in RENDERERS.values():
        assert wrong(render(safe)) == []


@pytest.mark.parametrize(
    ("text", "attack"),
    [
        ("<script>alert(1)</script>", "script"),
        ("![x](http://e.example/x.png)", "img"),
        ("[a](javascript:alert)", "href=javascript:alert"),
    ],
)
def test_the_judge_sees_an_attack(text: str, attack: str) -> None:
    """Unescaped, each of these is found: the tests above could fail."""
    rendered = mistune.create_markdown(
        escape=False, renderer=mistune.HTMLRenderer(False, ["javascript:"])
    )
    assert attack in wrong(str(rendered(text)))


@pytest.mark.parametrize("text", ["```\n<b>", "~~~\n<b>\n", "> ```\n> <b>", "```html\n<b>\n``"])
def test_code_that_is_still_written_is_closed(text: str) -> None:
    """A block of code without its end, as in a stream, is shown as code."""
    for render in RENDERERS.values():
        html = render(safe_markdown(text))
        assert "&lt;b&gt;" in html
        assert "<pre>" in html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is $x < y$ here.", "It is $x < y$ here."),
        ("\\(a^2\\) and\n\\[b^2\\]", "$a^2$ and\n$$b^2$$"),
        ("$a<b$", "$a\\lt b$"),
        ("It costs $5 and $6.", "It costs \\$5 and \\$6."),
        ("$\\href{javascript:alert(1)}{x}$", "\\$&#92;href{javascript:alert(1)}{x}\\$"),
    ],
)
def test_formulas_stay(text: str, shown: str) -> None:
    """Formulas are marked as all notebooks know them; sums of money are none; no command links."""
    assert safe_markdown(text) == shown


def test_control_characters_are_replaced() -> None:
    """What could steer a terminal, or stand for a piece taken out, cannot come in."""
    assert (
        safe_markdown("a\x1b[31m\x00\ue000\ud800b\r\nc\u2028d")
        == "a\ufffd[31m\ufffd\ufffd\ufffdb\nc\nd"
    )


@pytest.mark.parametrize(
    "piece", ["`", "[", "$", "\\(", "\\[", "<", "> ", "~~~\n", "- ", "a|", "\\", "!["]
)
def test_no_text_takes_long(piece: str) -> None:
    """A long row of openings that never close is read in one go; the suite's limit is the judge."""
    assert safe_markdown(piece * 20_000)


def test_names_are_escaped() -> None:
    """A name between our own words shows as it is, in Markdown and in HTML."""
    assert escaped("a_b <x>\n*c*") == "a&#95;b &#60;x&#62; &#42;c&#42;"
    assert code_html("f(`|`)") == "<code>f&#40;&#96;&#124;&#96;&#41;</code>"
    for render in RENDERERS.values():
        assert "a_b &lt;x&gt;" in render(escaped("a_b <x>"))
