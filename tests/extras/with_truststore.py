"""The extra ``truststore``: the system's store judges a server, and a stranger is refused."""

# Also needs: trustme

from __future__ import annotations

import os
import ssl
import sys
import tempfile

import trustme

from termai_http import Client, HttpClientConfig, TLSError
from termai_http.testing import Server

authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("127.0.0.1").configure_cert(context)
ONCE = HttpClientConfig(ca_bundle="system", max_retries=0)

with Server(tls=context) as server:
    there = {"model": "gpt-5.5", "api_key": "k", "base_url": server.openai_url}
    with Client(ONCE) as client:
        try:
            client.chat("hi", **there)
        except TLSError:
            assert server.requests == []
        else:
            sys.exit("a stranger's certificate was taken")
    if sys.platform == "linux":
        # There the store is the one of OpenSSL, which this variable moves.
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SSL_CERT_FILE"] = os.path.join(folder, "store.pem")
            authority.cert_pem.write_to_path(os.environ["SSL_CERT_FILE"])
            with Client(ONCE) as client:
                assert client.chat("hi", **there).text == "You said: hi"
