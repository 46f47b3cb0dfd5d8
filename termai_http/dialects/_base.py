"""What the dialects share: the interface, and the parts of a reply."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import attrs

from .. import _json
from .._answer_head import Headers
from .._secrets import Secret, without_lone_surrogates
from .._values import Value
from ..errors import InvalidRequestError
from ..models import ChatRequest, ToolCall, Usage

if TYPE_CHECKING:
    from .._sse import ServerEvent

__all__ = [
    "Decoded",
    "Dialect",
    "Piece",
    "StreamDecoder",
    "count",
    "lowered",
    "made_good",
    "tool_call",
]

Piece: TypeAlias = "tuple[str, Any, Mapping[str, Any]]"
"""A piece of a streamed reply: the type of its ``StreamEvent``, its value, the vendor's own event.

The value is text; a ``ToolCall`` of a ``"tool_call"``; text and a ``ToolCall``, as far as it is
known, of a ``"tool_call_delta"``; ``Usage`` of a ``"usage"``; the reason of a ``"finish"``.
"""


@attrs.define(kw_only=True, eq=False, repr=False)
class Decoded(Value):
    """What a dialect reads in a complete reply; the fields are those of ``ChatResponse``.

    Attributes:
        refusal: Why the model refused to answer in the form that ``output=`` asked for, in its own
            words; None where it did not.
    """

    text: str
    finish_reason: str | None
    usage: Usage
    model: str
    id: str
    raw: Mapping[str, Any]
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()
    texts: tuple[str, ...] = ()
    refusal: str | None = None


class StreamDecoder(Protocol):
    """Reads one streamed reply, event by event. Pure, and for one thread at a time."""

    @property
    def ended(self) -> bool:
        """Whether the dialect's own end mark came; what comes after it is ignored."""

    @property
    def complete(self) -> bool:
        """Whether the body may end here: the end mark came, or the reason why the reply ended."""

    def feed(self, event: ServerEvent) -> list[Piece]:
        """Read one event.

        Raises:
            APIStatusError: It is an error, of the class that its status would have had.
            InvalidResponseError: It is not what this API streams; ``TruncatedResponse`` where it
                is cut short.
        """

    @property
    def text_of(self) -> Callable[[ServerEvent], str | None]:
        """Read an event as ``feed``, for its text alone; None where ``feed`` has to read it."""

    def text(self) -> str:
        """Return the text of all ``"text"`` pieces so far, in their order."""

    def result(self) -> Decoded:
        """Return the reply as far as it came, as ``decode`` reads it where it comes whole."""


class Dialect(Protocol):
    """One vendor API on the wire. Pure: nothing here does I/O."""

    provider: ClassVar[str]
    path: ClassVar[str]
    models_path: ClassVar[str]

    def headers(self, key: Secret, bearer: bool) -> dict[str, str]:
        """Return the headers that authenticate, ``bearer`` for an OAuth token."""

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body for ``request``.

        Its ``tools`` are ``ToolSpec`` or the vendor's own, its ``output`` an ``OutputSpec``.

        Raises:
            InvalidRequestError: Something in it cannot be said to this vendor.
        """

    def adopt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the vendor's own body, refused where it has nothing to ask."""

    def check(self, body: dict[str, Any]) -> None:
        """Refuse a body that the API is known to refuse, and fill in what it requires."""

    def ask_to_stream(self, body: dict[str, Any]) -> None:
        """Turn a body into one whose reply is streamed, its usage included."""

    def decode(self, payload: Mapping[str, Any], request_texts: Callable[[], list[str]]) -> Decoded:
        """Read a success.

        Args:
            payload: The body.
            request_texts: Returns the texts of the request, masked where an error repeats them.

        Raises:
            InvalidResponseError: It is not what this API answers.
            APIStatusError: It is a failure inside a success.
        """

    def decode_stream(self, request_texts: Callable[[], list[str]]) -> StreamDecoder:
        """Return a decoder for one stream.

        Args:
            request_texts: Returns the texts of the request, masked where an error repeats them.
        """


def count(value: Any) -> int:
    """Read a token count; 0 where it is missing or none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def made_good(value: Any) -> Any:
    """Return JSON that was read, with U+FFFD for lone surrogates, which no request may have.

    A vendor that cuts text by UTF-16 units sends them. What has none is returned as it is.
    """
    if isinstance(value, str):
        return without_lone_surrogates(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return value
    good = without_lone_surrogates(text)
    return value if good == text else json.loads(good)


def tool_call(id: Any, name: Any, text: Any) -> ToolCall:
    """Make a tool call of what a vendor sent, its arguments as JSON text or read already."""
    text = made_good(text)
    if isinstance(text, str):
        try:
            arguments = _json.loads(text.encode()) if text.strip() else {}
        except ValueError:
            arguments = None
    else:
        arguments, text = text, _as_text(text) if isinstance(text, Mapping) else ""
    return ToolCall(
        id=id if isinstance(id, str) else "",
        name=name if isinstance(name, str) else "",
        arguments=arguments if isinstance(arguments, Mapping) else None,
        text=text,
    )


def _as_text(arguments: Mapping[str, Any]) -> str:
    try:
        return _json.dumps(arguments).decode()
    except InvalidRequestError:
        # Nested too deeply to be sent again.
        return ""


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their names in lower case."""
    # What came the direct way has no others; what requests gives has them ready; a test's own
    # answer may have a plain dict.
    if isinstance(headers, Headers):
        return headers
    items = getattr(headers, "lower_items", None)
    if items is not None:
        return dict(items())
    return {name.lower(): value for name, value in headers.items()}
