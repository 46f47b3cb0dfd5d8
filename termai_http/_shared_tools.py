"""``run_tools`` on the process-wide client."""

from __future__ import annotations

from ._described import described
from ._frames import hiding, unwrap
from ._importing import importing
from ._shared import chosen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    # The module that makes the calls; there once it was needed.
    from . import _run_tools as _engine
    from ._client import Client
    from ._in_flight import CancelToken
    from ._layer import Layer
    from ._options import Target
    from ._tool_run import ToolRun
    from .config import RetryConfig
    from .events import Event, RetryScheduled
    from .models import Prompt
else:
    _engine = None

__all__ = ["run_tools"]


def _load() -> None:
    """Load the module that makes these calls; the first of them does."""
    global _engine
    with importing():
        from . import _run_tools as _engine


@hiding
@described
def run_tools(
    prompt: Prompt,
    *,
    tools: Sequence[Any],
    max_rounds: int = 10,
    exchange: list[Any] | None = None,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    output: Any = None,
    reasoning: str | Mapping[str, Any] | None = None,
    stop: str | Sequence[str] | None = None,
    client: Client | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
    retry: RetryConfig | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_query: Mapping[str, Any] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    cancel: CancelToken | None = None,
    rollout_key: str | int | bytes | None = None,
    provider: str | None = None,
    api: str | None = None,
    api_version: str | None = None,
    fallback: Sequence[str | Target] | None = None,
    layers: Sequence[Layer] | None = None,
    on_event: Callable[[Event], object] | None = None,
    on_retry: Callable[[RetryScheduled], object] | None = None,
    **params: Any,
) -> ToolRun:
    """Chat, call the functions that the model asks for, tell it their results, and chat again.

    The functions run in this thread, one after the other, until the model asks for none any more.
    What a function raises (an ``Exception``) is told to the model as ``"ValueError: message"``, and
    so is a call of no such tool or with arguments that do not fit; a Ctrl-C goes through. The same
    for every vendor.

    Args:
        prompt: As for ``chat()``.
        tools: Python functions; each parameter needs an annotation, and the docstring tells the
            model what they mean. A ``ToolSpec`` or the vendor's own JSON may be among them: where
            the model calls what has no function, the run ends, with ``pending`` calls.
        max_rounds: Replies to ask for, at most. A run that they end has ``pending`` calls, none of
            which was made.
        exchange: A list that gets every message of the run as it comes, the prompt's first: where
            a later round fails it holds what there was, ready to go on from. It may be the prompt
            itself.
        model: The model; ``claude...`` goes to Claude, everything else to OpenAI. None means the
            variable ``TERMAI_HTTP_MODEL``.
        system: Instructions that stand before the conversation.
        max_tokens: Most tokens to generate in each reply. None means 4096 for Claude, no limit for
            OpenAI.
        output: What the last reply shall be, as for ``chat()``.
        reasoning: How much to think before each reply, as for ``chat()``.
        stop: Text, or a list of texts, that ends a reply where the model writes it.
        client: The client to use; None means the process-wide one.
        api_key: The vendor's key; None means the environment's.
        base_url: Where the API lives; None means the environment's, or the vendor.
        timeout: Seconds for the whole run, the functions included; None gives each round the
            client's own. Nothing breaks off a function that runs.
        retry: The retry policy of each round; None means the client's.
        extra_headers: Headers to add.
        extra_query: Query parameters to add.
        extra_body: Fields of the request bodies; they win over everything else.
        cancel: A ``CancelToken``; it also ends the run between two functions.
        rollout_key: Whose calls they are, as for ``chat()``. None draws for each round.
        provider: ``"openai"`` or ``"claude"``; None decides by the model's name.
        api: ``"chat"``, or ``"responses"`` for OpenAI's newer API; None means ``"chat"``.
        api_version: ``anthropic-version`` of the run; None means ``"2023-06-01"``.
        fallback: Who is asked next where the one before does not answer, in each round anew; as
            for ``chat()``.
        layers: What each call of the run passes through in the place of the client's
            ``layers``; None means those, ``()`` none.
        on_event: Hears every event of each call of the run, in the thread where it happens.
        on_retry: Hears of every retry before the wait: ``attempt``, ``cause``, ``wait``,
            ``status_code``, ``request_id``.
        **params: Any parameter of the vendor's. A ``tool_choice`` that forces a call does so in
            the first round only.

    Returns:
        A ``ToolRun``: the last reply with its ``text`` and ``parsed``, and the whole exchange.

    Raises:
        InvalidRequestError: A function can be no tool, or as ``chat()``; nothing was sent.
        TermaiHttpError: As ``chat()``, from any round; ``DeadlineExceeded`` also before one.
    """
    if _engine is None:
        _load()
    return unwrap(_engine.run_with(lambda: chosen(client), locals()))
