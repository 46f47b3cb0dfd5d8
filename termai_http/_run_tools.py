"""``run_tools``, as its faces make it: a loop over calls of one client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._chat import send_chat
from ._core import Core
from ._faces import ask_with, chat_request
from ._importing import importing
from ._options import CallOptions
from ._target import Account
from .errors import TermaiHttpError
from .models import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from ._tool_loop import RunRequest
    from ._tool_run import ToolRun

__all__ = ["run_with"]


def run_with(on: Callable[[], Any], given: dict[str, Any]) -> ToolRun | BaseException:
    """Run the tools of a chat with a face's arguments as they were given; as ``ask_with``."""
    return ask_with(on, given, _request, _send)


def _request(given: dict[str, Any]) -> RunRequest:
    with importing():
        from ._tool_loop import RunRequest

    max_rounds, exchange = given.pop("max_rounds"), given.pop("exchange")
    return RunRequest(chat=chat_request(given), max_rounds=max_rounds, exchange=exchange)


def _send(
    core: Core, account: Account, request: RunRequest, options: CallOptions
) -> ToolRun | TermaiHttpError:
    with importing():
        from ._tool_loop import ToolLoop

    def ask(chat: ChatRequest, how: CallOptions) -> ChatResponse | TermaiHttpError:
        return send_chat(core, account, chat, how)

    return ToolLoop(ask, core.clock.monotonic, request, options).run()
