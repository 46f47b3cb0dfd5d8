"""What came of playing the fault catalogue: short texts, and the page ``docs/faults.rst``."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import attrs

from tests.faults.harness import Row

__all__ = ["CLIENTS", "PATIENCE", "Result", "brief", "page"]

CLIENTS = {"ours": "termai_http", "requests": "requests + Retry", "openai": "openai SDK"}
# Longer than the longest promise, the 30 s of F18.
PATIENCE = 40
_PEERS = ("requests", "openai")
_SECTIONS = {
    "Connect and TLS": ("F01", "F15"),
    "Reuse, sending, headers": ("F16", "F30"),
    "Status, body, decoding": ("F31", "F52"),
    "Streams": ("F53", "F59"),
    "Processes, threads, pool, signals": ("F60", "F78"),
    "Keys and environment": ("F79", "F88"),
}
_CELL = 70
_LINE = 100
_LATE = re.compile(r"[\d.]+ s of a [\d.]+ s timeout")
_LEFT_OPEN = re.compile(r"\d+ file descriptors left open")
_SHOWN = re.compile(r"the .+ stands in (.+)")
_DUMPS = ("the pickled error", "a traceback with locals")
_BYTES = r"b(?P<quote>['\"])(?:\\.|(?!(?P=quote))[^\\])*(?P=quote)"
# Long ones are given by their beginning and their end.
_ANSWER = re.compile(rf"(\w+) for {_BYTES}(?:\.\.\.b'[^']*'|\.\.\.b\"[^\"]*\")?(?:; |$)")
_SHORT_BYTES = 30


@attrs.frozen(kw_only=True)
class Result:
    """What came of one row with one client.

    Attributes:
        kept: Whether the row's own checks all held.
        text: The first promise that was broken; empty where there is none.
        flaws: What the bench found beside them: deadline, descriptors, slots, secrets.
        hung: Whether it was killed.
    """

    kept: bool
    text: str = ""
    flaws: list[str] = attrs.field(factory=list)
    hung: bool = False

    @property
    def late(self) -> bool:
        """Whether a call outlived its deadline."""
        return any(_LATE.fullmatch(flaw) for flaw in self.flaws)

    @property
    def left_open(self) -> bool:
        """Whether descriptors were left open."""
        return any(_LEFT_OPEN.fullmatch(flaw) for flaw in self.flaws)

    @property
    def told(self) -> bool:
        """Whether a secret stood where people read: texts, fields, logs, figures."""
        return any(place not in _DUMPS for place in self._places())

    @property
    def dumped(self) -> bool:
        """Whether a secret stood in a pickle, or in a traceback with locals."""
        return any(place in _DUMPS for place in self._places())

    def shown_in(self, place: str | None) -> bool:
        """Whether a secret stood there, in the bench's words."""
        return place in self._places()

    def _places(self) -> list[str]:
        return [found[1] for flaw in self.flaws if (found := _SHOWN.fullmatch(flaw))]


def _steady(text: str) -> str:
    """Leave out what differs from run to run: ports, addresses, paths, exact times."""
    text = re.sub(
        r"the child failed: Traceback.*\n(\w+)[^\n]*\n*$", r"the child: \1", text, flags=re.S
    )
    text = re.sub(r"(127\.0\.0\.1|localhost|\[::1\]):\d+", r"\1", text)
    text = re.sub(r"\bport=\d+", "port=…", text)
    text = re.sub(r"\b0x[0-9a-fA-F]{6,}", "0x…", text)
    text = re.sub(r"(?<![\w:/.])/(?:tmp|home|root|work|usr|var|opt)/[^\s'\"),;]*", "…", text)
    text = re.sub(
        r"the reply to (?:parent|child)\S* was (?:parent|child)\S*",
        "replies cross between parent and child",
        text,
    )
    text = re.sub(r"(?<!not over) after [\d.]+ s(?! of)", "", text)
    return re.sub(r"(?<!of a )\d+\.\d+(?= (?:s|times)\b)", _round, text)


def _round(number: re.Match[str]) -> str:
    value = float(number[0])
    return f"{value:.0f}" if value >= 1 else f"{value:.1f}"


def _count_answers(text: str) -> str:
    """Count what came of a list of answers, instead of quoting each."""
    answers = list(_ANSWER.finditer(text))
    if len(answers) < 2 or sum(len(answer[0]) for answer in answers) != len(text):
        return text
    came = Counter(answer[1] for answer in answers)
    return "; ".join(f"{name} {number} times" for name, number in came.most_common())


def _quote(bytes_: re.Match[str]) -> str:
    quoted = bytes_[0].lstrip()[1:]
    if len(quoted) > _SHORT_BYTES:
        quoted = f"{quoted[:_SHORT_BYTES]}…{quoted[0]}"
    return f" {quoted}"


def _plain(text: str) -> str:
    """Say it as a reader would: no kinds in brackets, short bytes."""
    text = _count_answers(text)
    text = re.sub(r"(b'[^']*)'\.\.\.b'[^']*'", r"\1…'", text)
    text = re.sub(rf"(?:^| ){_BYTES}", _quote, text).strip()
    text = text.replace("reply (reply)", "a reply").replace("(untyped)", "(foreign)")
    text = re.sub(r"^reply\b", "a reply", text)
    text = re.sub(r"(\w) \((?!foreign)\w+\)$", r"\1", text)
    return re.sub(r"\b1 times", "once", text)


def _shorten(text: str) -> str:
    """Keep the parts that have room, or the words of the first one."""
    parts = text.split("; ")
    kept = parts[:1]
    while len(kept) < len(parts) and len("; ".join([*kept, parts[len(kept)], "…"])) <= _CELL:
        kept.append(parts[len(kept)])
    more = ["…"] if len(kept) < len(parts) else []
    return textwrap.shorten("; ".join([*kept, *more]), _CELL, placeholder=" …")


def brief(result: Result | None, kept: str = "as promised") -> str:
    """Tell a result in a few words.

    Args:
        result: None where the row was not played.
        kept: The words where the promise was kept.
    """
    if result is None:
        return "-"
    said = kept
    if not result.kept:
        said = _shorten(_plain(_steady(result.text)))
    notes = ["late"] if result.late and not _LATE.search(result.text) else []
    notes += ["secret shown"] if result.told else []
    notes += ["descriptors left open"] if result.left_open else []
    notes += [flaw for flaw in result.flaws if "still in use" in flaw]
    return "; ".join([said, *notes])


def _escape(text: str) -> str:
    """Let nothing in a text be markup."""
    return "\\-" if text == "-" else re.sub(r"([\\*`|]|_(?!\w)|:(?=//))", r"\\\1", text)


def _item(text: str, first: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _LINE,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _list_table(widths: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [header, *rows]:
        for column, cell in enumerate(row):
            first = "   * - " if column == 0 else "     - "
            lines += _item(_escape(cell), first, "       ")
    return [*lines, ""]


def _heading(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _section(title: str, rows: Sequence[Row], found: Mapping[tuple[str, str], Result]) -> list[str]:
    header = ["row", "fault", "termai_http", *(CLIENTS[peer] for peer in _PEERS)]
    cells = [
        [
            row.number,
            row.fault,
            row.promise,
            *(brief(found.get((row.number, peer)), kept="same") for peer in _PEERS),
        ]
        for row in rows
    ]
    lines = [*_heading(title, "-"), *_list_table("5 25 36 17 17", header, cells)]
    argued = [row for row in rows if row.argument]
    if argued:
        lines += ["Where the promise differs from the first list of faults:", ""]
        for row in argued:
            lines += _item(_escape(f"{row.number}: {row.argument}"), "- ", "  ")
        lines += [""]
    return lines


_COUNTS: dict[str, Callable[[Result], bool]] = {
    "a call outlived its deadline": lambda result: result.late,
    f"not over after {PATIENCE} s": lambda result: result.hung,
    "a secret in a text, a field, a log or a figure": lambda result: result.told,
    "a secret in a pickle or a traceback with locals": lambda result: result.dumped,
    "file descriptors left open": lambda result: result.left_open,
}


def _summary(found: Mapping[tuple[str, str], Result]) -> list[str]:
    results = {
        client: [result for (_, player), result in found.items() if player == client]
        for client in CLIENTS
    }
    kept = [f"{sum(each.kept for each in list_)} of {len(list_)}" for list_ in results.values()]
    rows = [["rows as promised, of those that can be played", *kept]]
    for name, of in _COUNTS.items():
        rows.append([name, *(str(sum(map(of, list_))) for list_ in results.values())])
    lines = [
        *_heading("In numbers", "-"),
        *_list_table("46 18 18 18", ["rows", *CLIENTS.values()], rows),
    ]
    broken = [
        number
        for (number, client), result in found.items()
        if client == "ours" and (result.flaws or not result.kept)
    ]
    lines += ["Of a row that was killed, nothing else is counted.", ""]
    if broken:
        text = f"termai_http itself did not keep every promise in this run: {', '.join(broken)}."
        lines += [text, ""]
    return lines


_HEAD = """\
What happens when something fails
=================================

A list of what can go wrong between a program and a model's API, and what ``termai_http`` then
does. It has {total} rows, {here} of them on this page. ``python -m benchmarks.faults`` wrote
the page, and a test compares it with the catalogue.

Each row is a function in ``tests/faults``. It makes its fault happen on real sockets of this
machine, calls through a real client, and checks the promise. The suite does so with
``termai_http``; there, it also checks the exact class of the error, its attempts, and the figures.
After each row the bench looks for what no fault may do, whatever it is:

- a call ends by its deadline (0.25 s over, at most);
- every slot is back, and no file descriptor is left open;
- key and prompt stand nowhere: not in the text, the fields, the pickle of an error, not in the
  client's own frames of a traceback with locals, not in a log, a warning, or the client's figures.

The same functions are then played with two other clients, each row in a process of its own: a
plain ``requests.Session`` with urllib3's ``Retry`` (2 retries, of ``POST`` too), and the official
openai SDK (2 retries, its default). Waits between attempts are as short for all three. The others
never made these promises: their columns show what a program gets in the same place.

- *same*: the promise was kept. Otherwise, the first thing that was not.
- *late*: a call took longer than the timeout it was given. The others' timeout is one for each
  read of each attempt; that of ``termai_http`` is one for the whole call.
- *secret shown*: the key, the prompt or a proxy's password, in a text, a field, a log or a figure.
  Pickles and tracebacks with locals count at the end only, but for F85 and F86, which are about
  them.
- *foreign*: the exception is none of the client's own, so its handlers for errors miss it.
- *not over after {patience} s*: the row was killed then.
- *-*: only ``termai_http`` has what the row is about.

To repeat it::

    pip install -e '.[test]' -r benchmarks/requirements.txt
    python -m benchmarks.faults --write docs/faults.rst     # all, in some minutes
    python -m benchmarks.faults --only F16,F17              # some rows, printed
    python -m pytest tests/faults -k F16                    # with termai_http only
"""


def page(
    rows: Sequence[Row],
    total: int,
    found: Mapping[tuple[str, str], Result],
    versions: str,
) -> str:
    """Return the page.

    Args:
        rows: The catalogue.
        total: How many rows it has when it is complete.
        found: What came of each row, by its number and the client's name.
        versions: What it was played on and with.
    """
    head = _HEAD.format(
        total=total,
        here="all" if len(rows) == total else len(rows),
        patience=PATIENCE,
    )
    linux = ", ".join(row.number for row in rows if row.linux)
    lines = [head, *_item(f"This page: {versions}. Rows that need Linux: {linux}.", "", ""), ""]
    for title, (first, last) in _SECTIONS.items():
        inside = [row for row in rows if first <= row.number <= last]
        if inside:
            lines += _section(title, inside, found)
    lines += _summary(found)
    return "\n".join(lines).rstrip("\n") + "\n"
