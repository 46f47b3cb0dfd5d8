"""The code of the pages of ``docs/``: found, and run as a reader would, page by page.

``python -m tests.docs_pages start.rst`` runs one page in this process, against the server that the
environment's base URLs name.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.rst"))
# What a block's class says: of a package that nobody has any more; what this package says, and
# nothing to run; run by ``docs_hosts``.
CLASSES = ("old", "said", "elsewhere")
# Commands that end by themselves, and print the same everywhere.
_RUN = re.compile(r"(.*\| )?termai-http (?!serve|batch|demo|doctor)")
_FLAGS = doctest.ELLIPSIS

# What is done with a page's names after its code ran.
_AFTER = {
    "start.rst": """
import django.conf, django.test
django.conf.settings.configure(ALLOWED_HOSTS=["*"])
answer = ask(django.test.RequestFactory().post("/", {"prompt": "Hello"}))
assert (answer.status_code, answer.content) == (200, b'{"text": "You said: Hello"}'), answer.content
"""
}


@attrs.frozen
class Block:
    """One piece of a page that is code.

    Attributes:
        line: Where it begins, from 1.
        kind: Its language, or ``"doctest"``.
        marks: The words of its ``class`` option.
        text: The code.
    """

    line: int
    kind: str
    marks: tuple[str, ...]
    text: str

    @property
    def is_test(self) -> bool:
        """Whether it is for pytest."""
        return (
            self.kind == "python" and re.search(r"^def test_", self.text, re.MULTILINE) is not None
        )


def blocks(page: str) -> Iterator[Block]:
    """Find the code of a page, in its order."""
    lines = [*(DOCS / page).read_text("utf-8").splitlines(), ""]
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.lstrip().startswith(">>> "):
            begin = at
            while lines[at].strip():
                at += 1
            yield Block(begin, "doctest", (), "\n".join(lines[begin - 1 : at]) + "\n")
        elif found := re.fullmatch(r"( *)\.\. code-block:: *(\w+)", line):
            begin, inside = at, []
            while not lines[at].strip() or lines[at].startswith(found[1] + "   "):
                inside.append(lines[at])
                at += 1
                if at == len(lines):
                    break
            yield _block(begin, found[2], inside)


def _block(line: int, kind: str, inside: list[str]) -> Block:
    """Make a block of the lines under its directive: options, an empty line, code."""
    begin = next(at for at, one in enumerate(inside) if not one.strip())
    marks = [one.partition(":class:")[2] for one in inside[:begin] if ":class:" in one]
    code = inside[begin:]
    margin = min(len(one) - len(one.lstrip()) for one in code if one.strip())
    text = "\n".join(one[margin:] for one in code).strip("\n") + "\n"
    return Block(line, kind, tuple(" ".join(marks).split()), text)


def run(page: str) -> list[str]:
    """Run the code of a page with names that its blocks share; return what went wrong."""
    names: dict[str, Any] = {"__name__": "page"}
    wrong: list[str] = []
    for block in blocks(page):
        if block.marks or block.is_test:
            continue
        if block.kind == "doctest":
            wrong += _run_session(page, block, names)
        elif block.kind == "python":
            wrong += _run_code(f"{page}:{block.line}", block.text, names)
        elif block.kind == "console":
            wrong += _run_commands(page, block)
    return wrong or _run_code(f"after {page}", _AFTER.get(page, ""), names)


def _run_session(page: str, block: Block, names: dict[str, Any]) -> list[str]:
    test = doctest.DocTestParser().get_doctest(block.text, names, page, page, block.line - 1)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=_FLAGS)
    runner.run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    return ["".join(said)] if runner.failures else []


def _run_code(where: str, code: str, names: dict[str, Any]) -> list[str]:
    try:
        exec(compile(code, where, "exec"), names)
    except (Exception, SystemExit):
        return [f"{where}\n{traceback.format_exc()}"]
    return []


def _run_commands(page: str, block: Block) -> list[str]:
    wrong = []
    for command, wanted in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
        if not _RUN.match(command):
            continue
        folder = Path(sys.executable).parent
        environ = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, timeout=60, env=environ
        )
        alike = doctest.OutputChecker().check_output(wanted, done.stdout, _FLAGS)
        if done.returncode or not alike:
            wrong.append(f"{page}:{block.line}: {command}\n{done.stdout}{done.stderr}")
    return wrong


def main() -> int:
    """Run one page."""
    wrong = run(sys.argv[1])
    sys.stderr.write("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
