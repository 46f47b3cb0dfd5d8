"""The server that the calls go to, in a process of its own: nginx, or a stand-in in Python.

nginx needs its echo module, for the answers that come late. On Debian::

    apt-get install -y nginx-light libnginx-mod-http-echo
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import certifi
import trustme

from . import _nginx, _python_upstream

__all__ = ["Upstream", "upstream"]


@attrs.frozen
class Upstream:
    """Where the server is.

    Attributes:
        name: What it is, for people.
        plain: Its URL.
        tls: Its URL over TLS.
        bundle: The CAs to trust: as many as the world has, and its own.
        connections: Returns how many connections it accepted so far.
    """

    name: str
    plain: str
    tls: str
    bundle: str
    connections: Callable[[], int]


def _certify(folder: Path) -> tuple[Path, Path]:
    """Write a certificate with its key, and a bundle that is as slow to load as a real one."""
    authority = trustme.CA()
    certificate, bundle = folder / "certificate.pem", folder / "bundle.pem"
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    world = Path(certifi.where()).read_bytes()
    bundle.write_bytes(world + b"\n" + authority.cert_pem.bytes())
    return certificate, bundle


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[Upstream]:
    """Run the server while the block runs.

    Args:
        folder: Where its files are written.
    """
    certificate, bundle = _certify(folder)
    with contextlib.ExitStack() as stack:
        found = _nginx.find()
        if found is None:
            name = "a Python server, since nginx with its echo module is not here (a bottleneck)"
            started = stack.enter_context(_python_upstream.serving(certificate))
        else:
            name = f"{found.version} in a process of its own"
            started = stack.enter_context(_nginx.serving(found, folder, certificate))
        yield Upstream(
            name=name,
            plain=f"http://127.0.0.1:{started.plain}",
            tls=f"https://127.0.0.1:{started.tls}",
            bundle=str(bundle),
            connections=started.connections,
        )
