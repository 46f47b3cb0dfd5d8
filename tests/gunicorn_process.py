"""A real gunicorn for tests: begun, waited for, ended, and its log judged."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def gunicorn_process(
    *arguments: str, folder: Path, environ: Mapping[str, str], patience: float = 60.0
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run gunicorn until the block ends; what it logs as an error fails the test.

    Args:
        *arguments: Of its command line; it has to bind a port of 127.0.0.1.
        folder: Where it runs.
        environ: All its variables.
        patience: Seconds that it may take to end.

    Yields:
        The port, and the process.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *arguments],
        cwd=folder,
        env=environ,
        text=True,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            log = ""
            while not (found := re.search(r"Listening at: http://127.0.0.1:(\d+)", log)):
                line = process.stderr.readline()
                assert line, log
                log += line
            yield int(found[1]), process
            process.terminate()
            _, rest = process.communicate(timeout=patience)
            assert process.returncode == 0, rest
            assert not re.search("ERROR|CRITICAL|Traceback|Exception", rest), rest
        finally:
            process.kill()
