"""The extra ``jupyter``: the magic and ``show()`` work in a shell of IPython's."""

from __future__ import annotations

import os
import tempfile

os.environ["IPYTHONDIR"] = tempfile.mkdtemp()

import ipykernel.zmqshell
from IPython.core.interactiveshell import InteractiveShell

from termai_http.testing import Server

CELLS = (
    "%load_ext termai_http",
    "%%chat -m gpt-5.5 --out reply\nhello there",
    "from termai_http import stream\nfrom termai_http.contrib.jupyter import show",
    "shown = show(stream('hi', model='gpt-5.5'))",
)

assert issubclass(ipykernel.zmqshell.ZMQInteractiveShell, InteractiveShell)
with Server() as server:
    os.environ.update(OPENAI_API_KEY="k", OPENAI_BASE_URL=server.openai_url)
    shell = InteractiveShell.instance()
    for cell in CELLS:
        shell.run_cell(cell).raise_error()
    assert shell.user_ns["reply"].text.strip() == "You said: hello there"
    assert shell.user_ns["shown"].text == "You said: hi"
    assert len(server.requests) == 2
