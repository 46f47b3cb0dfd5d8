"""What servers of the tests make TLS with."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A CA of the tests' own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA) -> Iterator[str]:
    """The path of its certificate."""
    with authority.cert_pem.tempfile() as path:
        yield path


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    """What a server makes TLS with."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    return made
