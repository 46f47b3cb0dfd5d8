"""``Conversation``: the turns of a chat, kept, continued and saved."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from ._conversation_json import Saved, check_texts, copied, dump, load
from ._frames import hiding
from ._options import CallOptions, check_params
from ._secrets import Secret, without_lone_surrogates
from ._shared import chat, stream
from ._shared_queries import count_tokens
from ._shared_tools import run_tools
from .errors import InvalidRequestError
from .models import ROLES, ChatResponse, Message, Prompt, Usage, as_messages

if TYPE_CHECKING:
    from ._client import Client
    from ._stream import Stream
    from ._tool_run import ToolRun

__all__ = ["Conversation"]

_OPTIONS = frozenset(
    {"max_tokens", "output", "reasoning", "stop", "tools"}
    | {field.name for field in attrs.fields(CallOptions)}
)


@attrs.frozen
class _Turn:
    """Messages that were added in one step, and what their reply cost."""

    messages: tuple[dict[str, Any], ...] = attrs.field(repr=False)
    usage: Usage = attrs.field(factory=Usage)


class Conversation:
    """The turns of a chat: each question is asked with all that was said before.

    A question and its reply are added together, once the reply is whole: where a call fails, the
    conversation stays as it was. Vendor and model may change between questions.

    Every method is safe from any thread. Of two that ask at once, each asks with what was there
    when it began, and the two pairs are added in the order of their replies.

    Attributes:
        model: The model to ask; None means the variable ``TERMAI_HTTP_MODEL``.
        system: Instructions that stand before the conversation; None for none.

    Args:
        model: As the attribute.
        system: As the attribute.
        client: The client to use; None means the process-wide one, looked up at each call.
        messages: What was said before.
        **options: Options of every call, as for ``chat()``: ``tools``, ``base_url``,
            ``extra_headers``, ``timeout``, ``temperature`` and others. They are never saved.

    Raises:
        InvalidRequestError: Model or system is no text, a message has a wrong shape, or an option
            is none.
    """

    @hiding
    def __init__(
        self,
        model: str | None = None,
        *,
        system: str | None = None,
        client: Client | None = None,
        messages: Sequence[Mapping[str, Any] | Message] = (),
        **options: Any,
    ) -> None:
        check_texts(model=model, system=system)
        self.model = model
        self.system = system
        # Without a lock, and so nothing that a fork or an interrupt could leave locked: to append
        # to a list and to copy it is one step each.
        self._turns: list[_Turn] = []
        self._client = client
        check_params({name: options[name] for name in options if name not in _OPTIONS})
        self._options = dict(options)
        if isinstance(options.get("api_key"), str):
            self._options["api_key"] = Secret(options["api_key"])
        self.extend(messages)

    def __repr__(self) -> str:
        return f"<termai_http.Conversation {self.model!r}, {len(self)} messages>"

    def __getstate__(self) -> NoReturn:
        raise TypeError("A Conversation cannot be pickled; use to_json(), which holds no key.")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """A copy of the messages."""
        return [copied(message) for message in self._said()]

    @property
    def usage(self) -> Usage:
        """The tokens of all replies together, as far as they were got by this object."""
        used = [turn.usage for turn in list(self._turns)]
        names = [field.name for field in attrs.fields(Usage)]
        return Usage(**{name: sum(getattr(one, name) for one in used) for name in names})

    def __len__(self) -> int:
        return sum(len(turn.messages) for turn in list(self._turns))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.messages)

    @hiding
    def append(
        self, role_or_message: str | Mapping[str, Any] | Message, content: Any = None
    ) -> None:
        """Add one message.

        Args:
            role_or_message: The role, or a whole message: a ``Message``, a dict, for example the
                result of a tool.
            content: Where a role was given, its text or list of parts.

        Raises:
            InvalidRequestError: It is no message; nothing was added.
        """
        message: Any = role_or_message
        if isinstance(message, str) and message not in ROLES and content is None:
            raise InvalidRequestError(
                'append() takes a role and what was said, as append("user", "Hello"), or a whole '
                "message."
            )
        if isinstance(role_or_message, str):
            message = {"role": role_or_message, "content": content}
        elif content is not None:
            raise InvalidRequestError("content= goes with a role; this is a whole message.")
        self.extend([message])

    @hiding
    def extend(self, messages: Sequence[Mapping[str, Any] | Message]) -> None:
        """Add messages in one step, for example the ``messages`` of a reply.

        Raises:
            InvalidRequestError: One of them is no message; nothing was added.
        """
        for index, message in enumerate(messages):
            if not isinstance(message, (Mapping, Message)):
                raise InvalidRequestError(
                    f"messages[{index}] must be a Message or a dict, not {type(message).__name__}."
                )
        if messages:
            added = as_messages(list(messages))
            self._turns.append(_Turn(tuple(copied(message) for message in added)))

    @hiding
    def ask(self, prompt: Prompt | None = None, **options: Any) -> ChatResponse:
        """Ask, and add question and reply.

        Where the reply asks for tools, the vendors want their results next: append them and call
        ``ask()`` without a prompt, or use ``run_tools()`` from the beginning.

        Args:
            prompt: What to say next, as for ``chat()``; None says nothing more, for example after
                the results of tools were appended.
            **options: As for ``chat()``; they win over the conversation's own.

        Raises:
            TermaiHttpError: As ``chat()``; nothing was added.
        """
        turn, given = self._begin(prompt, options)
        reply = chat(copied([*self._said(), *turn]), **given)
        self._add(turn, reply)
        return reply

    @hiding
    def run_tools(self, prompt: Prompt | None = None, **options: Any) -> ToolRun:
        """Ask, call the functions that the model asks for, and add the whole exchange.

        Args:
            prompt: As for ``ask()``.
            **options: As for ``run_tools()``, ``tools`` unless the conversation has them; they win
                over the conversation's own.

        Raises:
            TermaiHttpError: As ``run_tools()``; nothing was added, whatever was called by then, and
                ``exchange=`` has it.
        """
        turn, given = self._begin(prompt, options)
        before = [*self._said(), *turn]
        run = run_tools(copied(before), **{"tools": None, **given})
        self._add_said(turn, run.messages[len(before) :], run.usage)
        return run

    @hiding
    def stream(self, prompt: Prompt | None = None, **options: Any) -> Stream:
        """Ask, and return the reply as a stream; once it was read to its end, both are added.

        One that is left early, cancelled or broken adds nothing: its ``text`` has what came, and
        ``append()`` adds what of it shall be kept.

        Args:
            prompt: As for ``ask()``.
            **options: As for ``stream()``; they win over the conversation's own.

        Raises:
            TermaiHttpError: As ``stream()``.
        """
        turn, given = self._begin(prompt, options)
        reply = stream(copied([*self._said(), *turn]), **given)
        _when_read(reply, functools.partial(self._add, turn))
        return reply

    @hiding
    def count_tokens(self, prompt: Prompt | None = None, **options: Any) -> int:
        """Return how many tokens ``ask()`` would send; as ``termai_http.count_tokens``."""
        turn, given = self._begin(prompt, options)
        given.pop("fallback", None)  # a question's; the count is asked of the model itself
        return count_tokens(copied([*self._said(), *turn]), **given)

    def _begin(
        self, prompt: Prompt | None, options: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the new messages, and the options of the call."""
        turn = [] if prompt is None else [copied(message) for message in as_messages(prompt)]
        own = {"model": self.model, "system": self.system, "client": self._client}
        return turn, {**own, **self._options, **options}

    def _said(self) -> list[dict[str, Any]]:
        return [message for turn in list(self._turns) for message in turn.messages]

    def _add(self, turn: list[dict[str, Any]], reply: ChatResponse) -> None:
        self._add_said(turn, reply.messages, reply.usage)

    def _add_said(
        self, turn: list[dict[str, Any]], said: Sequence[Mapping[str, Any]], usage: Usage
    ) -> None:
        # Half a surrogate pair, as some servers send it, could be neither asked with nor saved.
        whole = (copied(message, without_lone_surrogates) for message in said)
        self._turns.append(_Turn((*turn, *whole), usage))

    def copy(self) -> Conversation:
        """Return one that begins with the same turns and goes its own way."""
        other = type(self)(self.model, system=self.system, client=self._client, **self._options)
        other._turns += list(self._turns)
        return other

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> Conversation:
        return self.copy()

    @hiding
    def to_json(self) -> str:
        """Return model, system and messages as JSON, images and documents included.

        It holds no key, header, client or other option.

        Raises:
            InvalidRequestError: A message cannot be JSON; the error names the place.
        """
        return dump(Saved(model=self.model, system=self.system, messages=self._said()))

    @classmethod
    @hiding
    def from_json(
        cls, text: str | bytes, client: Client | None = None, **options: Any
    ) -> Conversation:
        """Return the conversation that ``to_json()`` wrote.

        Args:
            text: The JSON.
            client: As for a new conversation.
            **options: As for a new conversation.

        Raises:
            InvalidRequestError: It is none, or of a later version.
        """
        if not isinstance(text, (str, bytes)):
            raise InvalidRequestError(f"The JSON must be text, not {type(text).__name__}.")
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        return cls._of(load(data), client, options)

    @hiding
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what ``to_json()`` returns to a file that only its owner can read.

        The file is replaced in one step, so that it is never seen half written. A pipe or a device
        is written to.

        Raises:
            InvalidRequestError: A message cannot be JSON.
            OSError: The file cannot be written; one that was there stays as it was.
        """
        _write(path, self.to_json().encode())

    @classmethod
    @hiding
    def load(
        cls, path: str | os.PathLike[str], client: Client | None = None, **options: Any
    ) -> Conversation:
        """Return the conversation that ``save()`` wrote.

        Args:
            path: The file.
            client: As for a new conversation.
            **options: As for a new conversation.

        Raises:
            InvalidRequestError: The file is no conversation, or of a later version.
            OSError: It cannot be read.
        """
        found = load(Path(path).read_bytes(), f"The conversation {str(path)!r}")
        return cls._of(found, client, options)

    @classmethod
    def _of(cls, saved: Saved, client: Client | None, options: dict[str, Any]) -> Conversation:
        given = {"model": saved.model, "system": saved.system, **options}
        return cls(client=client, messages=saved.messages, **given)


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        # To replace a device, as root can, would take it from everybody.
        Path(path).write_bytes(data)
        return
    # What a link points to, not the link, is replaced.
    target = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(prefix=".conversation-", dir=target.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _when_read(reply: Stream, tell: Callable[[ChatResponse], None]) -> None:
    """Have a stream tell its whole reply, once it was read to its end."""
    finish = reply._finish

    def finish_and_tell(ended: Stream, error: BaseException | None) -> None:
        finish(ended, error)
        if ended.response is not None:
            tell(ended.response)

    reply._finish = finish_and_tell
