"""A real kernel for the tests, and a peer that keeps silent."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from termai_http.testing import Server

PATIENCE = 60.0
KEY = "sk-kernel-0123456789abcdef"
_SHOWN = ("display_data", "update_display_data", "execute_result", "stream", "error")


def environment(server: Server, home: Path) -> dict[str, str]:
    """Return what a kernel shall see: the loopback server, and no settings of the machine's."""
    names = ("OPENAI_", "ANTHROPIC_")
    left = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {
        **left,
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": server.claude_url,
        "ANTHROPIC_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
        "IPYTHONDIR": str(home),
    }


@attrs.define
class Ran:
    """What a cell did.

    Attributes:
        status: ``"ok"`` or ``"error"``.
        messages: What was shown: kinds and contents, in order.
    """

    status: str
    messages: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the contents of messages of these kinds."""
        return [content for kind, content in self.messages if kind in kinds]

    @property
    def text(self) -> str:
        """What was printed to either stream."""
        return "".join(content["text"] for content in self.of("stream"))

    @property
    def markdown(self) -> list[str]:
        """What was shown as Markdown, updates included."""
        shown = self.of("display_data", "update_display_data", "execute_result")
        return [one["data"]["text/markdown"] for one in shown if "text/markdown" in one["data"]]


class Kernel:
    """A kernel and its client.

    Args:
        manager: The ``KernelManager``.
    """

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def run(self, code: str, seen: Callable[[str, dict[str, Any]], None] | None = None) -> Ran:
        """Run a cell; ``seen`` gets each message as it comes."""
        # Otherwise a kernel drops what comes soon after a cell that failed.
        asked = self.client.execute(code, stop_on_error=False)
        ran = Ran(status="")
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind in _SHOWN:
                ran.messages.append((kind, content))
                if seen is not None:
                    seen(kind, content)
        # A kernel that is slow to start was asked several times whether it is ready.
        reply = self.client.get_shell_msg(timeout=PATIENCE)
        while reply["parent_header"].get("msg_id") != asked:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
        ran.status = reply["content"]["status"]
        return ran

    def restart(self) -> None:
        """Restart the kernel and wait for it."""
        self.manager.restart_kernel()
        self.client.wait_for_ready(timeout=PATIENCE)


@contextmanager
def running(env: Mapping[str, str], folder: Path) -> Iterator[Kernel]:
    """Start a kernel, and end it as Jupyter does."""
    # Here and not above: it looks for the folders of the machine's Jupyter.
    from jupyter_client.manager import KernelManager

    manager = KernelManager(connection_file=str(folder / "kernel.json"))
    manager.start_kernel(env=dict(env))
    kernel = None
    try:
        kernel = Kernel(manager)
        yield kernel
    finally:
        if kernel is not None:
            kernel.client.stop_channels()
        manager.shutdown_kernel()


class Silence:
    """A server that takes one request, answers with what it is given, and waits for the end.

    Attributes:
        asked: Set once the request came.
    """

    def __init__(self, answer: bytes = b"") -> None:
        self.asked = threading.Event()
        self._answer = answer
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        peer, _ = self._listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            came = b""
            while b'"messages"' not in came or not came.endswith(b"}"):
                came += peer.recv(65536)
            peer.sendall(self._answer)
            self.asked.set()
            if peer.recv(1) == b"":
                self._closed.set()

    def closed(self, seconds: float = PATIENCE) -> bool:
        """Wait for the client to close its connection, and tell whether it did."""
        return self._closed.wait(seconds)

    def __enter__(self) -> Silence:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)
        self._listener.close()
