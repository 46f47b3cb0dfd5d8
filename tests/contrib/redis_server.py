"""A Redis for tests: the one that ``TERMAI_HTTP_REDIS`` names, else one of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["running_redis"]

# Read at import: the tests hide this machine's variables from what is tested.
_GIVEN = os.environ.get("TERMAI_HTTP_REDIS", "")
_BINARY = shutil.which("redis-server")
_PATIENCE = 30


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[str | None]:
    """Yield the URL of a Redis; None where this machine has none.

    Args:
        folder: Where one of its own keeps its socket.
    """
    if _GIVEN:
        yield _GIVEN
        return
    if _BINARY is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [_BINARY, *options, "--dir", str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = any("Ready to accept" in line for line in process.stdout)
        assert ready, "redis-server did not start"
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.communicate(timeout=_PATIENCE)
