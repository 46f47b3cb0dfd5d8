"""The line of ``%%chat`` and the output of a stream, without a kernel."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from termai_http.contrib._jupyter_line import LineError, expanded, help_text, parse_cell, parse_line
from termai_http.contrib._jupyter_live import Live, Printed, Shown, plain


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


class Display:
    """Stands for IPython's ``display`` and its handle; showing takes ``cost`` seconds."""

    def __init__(self, clock: Clock, cost: float = 0.0) -> None:
        self.shown: list[tuple[float, str]] = []
        self._clock = clock
        self._cost = cost

    def __call__(self, shown: Shown, *, display_id: bool) -> Display:
        """Begin an output."""
        assert display_id
        assert self.shown == []
        self.update(shown)
        return self

    def update(self, shown: Shown) -> None:
        """Replace what it shows."""
        self.shown.append((self._clock.now, repr(shown)))
        self._clock.now += self._cost


class Ended:
    """Stands for a stream that broke."""

    response = None

    def __init__(self, text: str) -> None:
        self.text = text


def test_a_fast_stream_is_shown_ten_times_a_second() -> None:
    """A thousand pieces in five seconds are fifty updates, 0.1 s apart, and the end is shown."""
    clock = Clock()
    display = Display(clock)
    live = Live(display, clock)
    for number in range(1000):
        live.grew(lambda number=number: "x" * number)
        clock.now += 0.005
    assert 45 <= len(display.shown) <= 50
    times = [time for time, _ in display.shown]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.1
    live.ended(Ended("the end"))  # type: ignore[arg-type]
    assert display.shown[-1][1] == "the end"


def test_what_was_left_out_is_shown_once_no_more_comes() -> None:
    """Where the model stalls, all that came stands there; and nothing is shown twice."""
    clock = Clock()
    display = Display(clock)
    live = Live(display, clock)
    live.grew(lambda: "", by_more=False)
    assert display.shown == []
    live.grew(lambda: "one")
    live.grew(lambda: "one two")
    live.grew(lambda: "one two", by_more=False)
    assert [text for _, text in display.shown] == ["one"]
    clock.now += 0.1
    live.grew(lambda: "one two", by_more=False)
    clock.now += 0.1
    live.grew(lambda: "one two", by_more=False)
    assert [text for _, text in display.shown] == ["one", "one two"]


def test_a_text_that_is_slow_to_show_is_shown_less_often() -> None:
    """Where showing takes half a second, at most a sixth of the time goes into it."""
    clock = Clock()
    display = Display(clock, cost=0.5)
    live = Live(display, clock)
    begun = clock.now
    for _ in range(3000):
        live.grew(lambda: "x")
        clock.now += 0.005
    assert 0.5 * len(display.shown) <= (clock.now - begun) / 5


def test_the_text_is_made_only_when_it_is_shown() -> None:
    """Between two updates nobody joins the pieces of a long text."""
    made: list[int] = []
    clock = Clock()
    live = Live(Display(clock), clock)

    def text() -> str:
        made.append(1)
        return "x"

    for _ in range(100):
        live.grew(text)
    assert len(made) == 1


def test_a_terminal_gets_each_piece_once() -> None:
    """Where nothing can be replaced the new text is written, steering characters replaced."""
    written: list[str] = []
    printed = Printed(written.append)
    printed.grew(lambda: "a\x1b[2J")
    printed.grew(lambda: "a\x1b[2Jb")
    printed.ended(Ended("a\x1b[2Jbc"))  # type: ignore[arg-type]
    assert "".join(written) == "a\ufffd[2Jbc\n"
    silent: list[str] = []
    Printed(silent.append).ended(Ended(""))  # type: ignore[arg-type]
    assert "".join(silent) == ""


def test_what_a_notebook_keeps_has_two_forms() -> None:
    """As text and as Markdown, and as nothing that could be HTML."""
    shown = Shown("<b>\x07")
    assert repr(shown) == "<b>\ufffd"
    wanted = {"text/plain": "<b>\ufffd", "text/markdown": "&#60;b>\ufffd"}
    assert shown._repr_mimebundle_() == wanted
    assert plain("a\r\nb\x9bc") == "a\nb\ufffdc"


@pytest.mark.parametrize(
    ("line", "prompt", "options"),
    [
        ("Why?", "Why?", {}),
        ("-m gpt-5.5 Why?", "Why?", {"model": "gpt-5.5"}),
        ("--model=gpt-5.5 don't", "don't", {"model": "gpt-5.5"}),
        ("-m 'my model' \"quoted\" -x", '"quoted" -x', {"model": "my model"}),
        ("--stream -- --help is an option", "--help is an option", {"stream": True}),
        ("-p a=1 -p b=x hi", "hi", {"param": [("a", 1), ("b", "x")]}),
        ("-s '' hi", "hi", {"system": ""}),
        ("- a list", "- a list", {}),
        ("-e {x} it's", "{x} it's", {"expand": True}),
        ("--timeout 2.5 -o r hi", "hi", {"timeout": 2.5, "out": "r"}),
    ],
)
def test_a_line_is_options_and_then_text(line: str, prompt: str, options: dict[str, Any]) -> None:
    """Options come first; from the first other word on all is the prompt, quotes and all."""
    args, rest = parse_line(line)
    assert rest == prompt
    for name, value in options.items():
        assert getattr(args, name) == value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--mod x", "unrecognized arguments: --mod"),
        ("-m", "expected one argument"),
        ("-p x", "must be NAME=VALUE"),
        ("--api other", "invalid choice: 'other'"),
        ("-c class", "no name of a variable"),
        ("-m 'x", "No closing quotation"),
        ("some words", "stands below its line"),
    ],
)
def test_a_wrong_line_says_why(line: str, told: str) -> None:
    """Each mistake is one sentence that names it."""
    with pytest.raises(LineError, match=told) as caught:
        parse_cell(line)
    assert "\n" not in str(caught.value)


def test_variables_are_put_in_and_nothing_is_evaluated() -> None:
    """Names, attributes, items and formats are put in; a mistake says how to write a brace."""
    names = {"x": 1.5, "d": {"a": [2]}, "z": 1j}
    assert expanded("{x:.2f} {d[a][0]} {z.imag} {{x}} {x!r}", names) == "1.50 2 1.0 {x} 1.5"
    for text in ("{y}", "{}", "{0}", "{x", "}", "{x.nothing}", "{d[b]}", "{x:q}", "{1+1}"):
        with pytest.raises(LineError, match=r"write \{\{ for a brace"):
            expanded(text, names)


def test_the_help_names_every_option() -> None:
    """The help has each option and examples."""
    for word in ("--model", "--out", "--stream", "--conversation", "examples:", "%%chat"):
        assert word in help_text()
