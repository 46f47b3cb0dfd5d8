"""Pytest plugin: the fixture ``termai_server``. It imports nothing of ours until it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._server import Server

__all__ = ["termai_server"]


@pytest.fixture
def termai_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Give a loopback server that the environment's base URLs and keys point to.

    The process-wide client is closed before and after, so that tests share nothing.
    """
    import termai_http

    from ._server import Server

    termai_http.close()
    with Server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.claude_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-loopback")
        yield server
        termai_http.close()
