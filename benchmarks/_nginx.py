"""nginx as the upstream: in the foreground, with everything of its own in one folder."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from ._replies import BODIES, DELAY, HEADERS, SLOW
from ._started import Started

__all__ = ["find", "serving"]

_MODULE = "ngx_http_echo_module.so"
_PATIENCE = 10.0
_CONFIG = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    ssl_protocols TLSv1.2 TLSv1.3;
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
{headers}
{locations}
        location = /status {{ stub_status; }}
    }}
}}
"""


@attrs.frozen
class Nginx:
    """An nginx that is installed.

    Attributes:
        program: Its path.
        module: The path of its echo module.
        version: Its name and version.
    """

    program: str
    module: str
    version: str


def find() -> Nginx | None:
    """Return the nginx that is installed, None where it or its echo module is missing."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    told = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    folder = re.search(r"--modules-path=(\S+)", told)
    version = re.search(r"nginx/[\d.]+", told)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules") / _MODULE
    if version is None or not module.exists():
        return None
    return Nginx(program, str(module), version[0].replace("/", " "))


def _locations() -> str:
    lines = []
    for path, body in BODIES.items():
        lines.append(f"location = {path} {{ return 200 '{body}'; }}")
        # The internal redirect gives the late answer the same head, a Content-Length in it.
        late = f"echo_read_request_body; echo_sleep {DELAY}; echo_exec {path};"
        lines.append(f"location = {SLOW}{path} {{ {late} }}")
    return "\n".join(lines)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [sock.getsockname()[1] for sock in sockets]


def _write_config(found: Nginx, folder: Path, certificate: Path) -> tuple[Path, int, int]:
    plain, tls = _free_ports(2)
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            module=found.module,
            folder=folder,
            certificate=certificate,
            plain=plain,
            tls=tls,
            headers="\n".join(f"add_header {name} '{value}';" for name, value in HEADERS),
            locations=_locations(),
        )
    )
    return config, plain, tls


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                told = log.read_text(errors="replace") if log.exists() else ""
                raise RuntimeError(f"nginx did not start: {told}") from None
            time.sleep(0.02)
        else:
            return


class _Status:
    """Asks nginx, over one connection that is kept, what it accepted."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def connections(self) -> int:
        self._connection.request("GET", "/status")
        told = self._connection.getresponse().read()
        counts = re.search(rb"\n\s*(\d+) \d+ \d+", told)
        if counts is None:
            raise RuntimeError(f"nginx told {told!r}")
        return int(counts[1])

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def serving(found: Nginx, folder: Path, certificate: Path) -> Iterator[Started]:
    """Run nginx while the block runs.

    Args:
        found: Which one.
        folder: Where all its files lie.
        certificate: A certificate with its key.
    """
    config, plain, tls = _write_config(found, folder, certificate)
    process = subprocess.Popen(  # noqa: S603 - a program that was found, and names of our own
        [found.program, "-p", str(folder), "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_listens(process, plain, folder / "nginx.log")
        status = _Status(plain)
        with contextlib.closing(status):
            yield Started(plain, tls, status.connections)
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
