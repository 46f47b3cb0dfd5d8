"""OpenAI responses.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from .._importing import importing
from ..errors import InvalidRequestError, InvalidResponseError
from ..models import ChatRequest, as_messages
from ._base import Decoded
from ._openai import OpenAI
from ._openai_responses_input import encode_input, has_ours
from ._openai_responses_reply import check_finished, read_reply
from ._openai_responses_request import encode_request

if TYPE_CHECKING:
    from ._openai_responses_stream import OpenAIResponsesStream

__all__ = ["OpenAIResponses"]

# Without an input, one of these says what to answer.
_IN_PLACE_OF_INPUT = ("previous_response_id", "conversation", "prompt")


@attrs.frozen(kw_only=True)
class OpenAIResponses(OpenAI):
    """Encodes and decodes OpenAI's responses.

    Args:
        organization: As ``OpenAI``.
        project: As ``OpenAI``.
    """

    path: ClassVar[str] = "/responses"

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body for ``request``; ``system`` becomes its ``instructions``."""
        return encode_request(request)

    def check(self, body: dict[str, Any]) -> None:
        """Refuse what answers before the reply is there.

        Raises:
            InvalidRequestError: The response would be written in the background.
        """
        if body.get("background"):
            raise InvalidRequestError(
                "background=True answers before there is a reply, and this call waits for whole "
                "replies. Leave it out and give the call time with timeout=; to look after a "
                "response yourself, use RequestHandler."
            )

    def adopt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of OpenAI's own body, refused where it has nothing to answer.

        Its input may hold what a prompt of ``encode`` may: an ``Image``, for example.
        """
        given = body.get("input")
        if not given and any(body.get(name) for name in _IN_PLACE_OF_INPUT):
            return dict(body)
        if given is None and "messages" in body:
            raise InvalidRequestError(
                "The body has messages, as chat completions take them; responses take input."
            )
        if not isinstance(given, (str, list, tuple)):
            found = "missing" if given is None else type(given).__name__
            raise InvalidRequestError(f"input must be text or a list of items; it is {found}.")
        if not given or (isinstance(given, str) and not given.strip()):
            raise InvalidRequestError("input is empty.")
        if isinstance(given, str) or not has_ours(given):
            return dict(body)
        stored = body.get("store") is not False
        return {**body, "input": encode_input(as_messages(given), stored=stored)}

    def ask_to_stream(self, body: dict[str, Any]) -> None:
        """Turn a body into one whose reply is streamed; its usage comes unasked."""
        body["stream"] = True

    def decode(self, payload: Mapping[str, Any], request_texts: Callable[[], list[str]]) -> Decoded:
        """Read a response.

        Raises:
            InvalidResponseError: It has no list of output items, or is not written yet.
            APIStatusError: It failed.
        """
        check_finished(payload, request_texts)
        if not isinstance(payload.get("output"), list):
            raise InvalidResponseError("The reply has no list of output items.")
        return read_reply(payload)

    def decode_stream(self, request_texts: Callable[[], list[str]]) -> OpenAIResponsesStream:
        """Return a decoder for one stream.

        Args:
            request_texts: Returns the texts of the request, masked where an error repeats them.
        """
        with importing():
            from ._openai_responses_stream import OpenAIResponsesStream
        return OpenAIResponsesStream(request_texts)
