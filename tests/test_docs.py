"""The pages of ``docs/`` run, and say what the code says."""

from __future__ import annotations

import ast
import configparser
import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

import termai_http
from termai_http.config import HttpClientConfig, Limits, RetryConfig
from termai_http.testing import Server
from tests import docs_hosts, docs_said
from tests.docs_pages import CLASSES, DOCS, PAGES, Block, blocks
from tests.docs_tables import cells, described_fields, first_words

ROOT = DOCS.parent


def in_process(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with the environment of the test."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=cwd,
        env=dict(os.environ),
    )


# What a column of the pages shows without scrolling.
WIDTH = 90


def is_run(block: Block) -> bool:
    """Tell whether a block is run by ``docs_pages``."""
    return block.kind in ("doctest", "python", "console") and not block.marks and not block.is_test


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, blocks(page)))])
def test_the_code_of_a_page_runs(page: str, termai_server: Server) -> None:
    """Every piece of code on a page works, and prints what the page says."""
    done = in_process("-m", "tests.docs_pages", page)
    assert done.returncode == 0, done.stderr


def test_the_tests_on_the_page_about_testing_pass(tmp_path: Path) -> None:
    """What a reader copies from there into a file of tests passes, with the plugin alone."""
    found = [block.text for page in PAGES for block in blocks(page) if block.is_test]
    for number, text in enumerate(found):
        (tmp_path / f"test_{number}.py").write_text(text)
    done = in_process("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = sum(len(re.findall(r"^def test_", text, re.MULTILINE)) for text in found)
    assert f"{wanted} passed" in done.stdout
    assert wanted >= 5


def test_the_code_for_a_host_works_in_it() -> None:
    """Django's site, Flask's app, Celery's task and Jupyter's cells, as shown, give answers."""
    command = [sys.executable, "-W", "error", "-m", "tests.docs_hosts"]
    begun = {
        host: subprocess.Popen(
            [*command, host], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for host in docs_hosts.HOSTS
    }
    said = {host: process.communicate(timeout=100)[0] for host, process in begun.items()}
    failed = [said[host] for host, process in begun.items() if process.returncode]
    assert not failed, "\n".join(failed)


def test_no_code_is_left_out_by_a_slip() -> None:
    """A block is of a kind that is run, or says why it is not; old code is code at least."""
    for page in PAGES:
        for block in blocks(page):
            where = f"{page}:{block.line}"
            assert block.kind in ("doctest", "python", "console", "text"), where
            assert set(block.marks) <= set(CLASSES), where
            if "said" not in block.marks:
                assert all(len(line) <= WIDTH for line in block.text.splitlines()), where
            if "old" in block.marks:
                assert page == "moving.rst", where
            if "elsewhere" in block.marks:
                assert block in docs_hosts.all_shown(), where
            if block.kind == "python":
                ast.parse(block.text)


NAMES = {"RetryConfig": RetryConfig, "Limits": Limits}


@pytest.mark.parametrize(
    ("cls", "prefix"),
    [(HttpClientConfig, ""), (RetryConfig, "RETRY_"), (Limits, "LIMITS_")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_table_of_a_configuration_is_that_of_the_code(cls: type[Any], prefix: str) -> None:
    """Each field stands on the page once, with its default, its unit and its variable."""
    fields = attrs.fields(cls)
    described = described_fields()
    made = cls()
    for field in fields:
        name, default, unit = described.pop(f"TERMAI_HTTP_{prefix}{field.name.upper()}")
        assert name == field.name
        default = default.replace("<version>", termai_http.__version__)
        assert eval(default, dict(NAMES)) == getattr(made, field.name), field.name
        seconds = field.name.endswith(("timeout", "delay"))
        assert (unit == "seconds") == seconds, field.name
        assert (unit == "bytes") == (cls is Limits), field.name
    others = [key for key in described if key.startswith(f"TERMAI_HTTP_{prefix}")]
    assert not prefix or not others


def test_the_variables_on_the_page_are_read() -> None:
    """Every variable of a field on the page sets that field."""
    told = {"proxies": "http://127.0.0.1:1", "retry_on_status": "500", "user_agent": "x"}
    for variable, (name, default, unit) in described_fields().items():
        if name in ("retry", "limits", "layers", "prices"):
            continue
        paths = {"a path": "a.pem", "flag": str(default != "True"), "share": "0.5"}
        value = told.get(name) or paths.get(unit, "7")
        assert HttpClientConfig.from_env({variable: value}) != HttpClientConfig(), variable


def test_the_other_variables_on_the_page_stand_in_the_code() -> None:
    """No variable is described that nothing reads, and none is read that is not described."""
    text = (DOCS / "configuration.rst").read_text("utf-8").partition("Other variables")[2]
    code = "".join(path.read_text("utf-8") for path in Path(termai_http.__path__[0]).rglob("*.py"))
    variables = set(re.findall(r"``([A-Z]+_[A-Z_]+)``", text)) - {"TERMAI_HTTP_TIMOUT"}
    read = re.findall(r'"((?:OPENAI|ANTHROPIC|TERMAI_HTTP)_[A-Z_]+)"', code)
    assert set(read) <= variables | set(described_fields())
    # urllib finds these by the end of their names.
    found_by_urllib = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"}
    assert {name for name in variables - found_by_urllib if f'"{name}"' not in code} == set()
    assert len(variables) >= 12


def test_every_extra_is_told() -> None:
    """The page about configuration says what each extra is for."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"]) - {"test", "lint", "docs"}
    assert sorted(first_words("configuration.rst", "\nExtras\n")) == sorted(extras)


def test_the_table_of_errors_is_complete() -> None:
    """Each class of error stands on the page about errors once, with what to do."""
    rows = [row for row in cells("errors.rst", 3) if row[0].startswith(":exc:")]
    named = [row[0].removeprefix(":exc:`~termai_http.").rstrip("`") for row in rows]
    assert sorted(named) == sorted(termai_http.errors.__all__)
    assert all(when and what for _, when, what in rows)


def test_the_fields_of_an_error_are_complete() -> None:
    """The page names every field that an error has."""
    text = (DOCS / "errors.rst").read_text("utf-8").partition("What an error carries")[2]
    table = text.split("=\n")[1]
    fields = re.findall(r"^``(\w+)``", table, re.MULTILINE)
    assert set(fields) == set(vars(termai_http.TermaiHttpError("x")))


def test_the_page_about_retries_names_the_statuses_of_the_policy() -> None:
    """The statuses that are tried again are those of the default policy."""
    text = (DOCS / "retries.rst").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith("   * - Status "))
    assert {int(status) for status in re.findall(r"\d+", line)} == RetryConfig().retry_on_status


def test_the_messages_under_troubleshooting_are_the_codes_own(
    termai_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message that the page quotes is said when its fault is played."""
    said = docs_said.all_said(termai_server)
    monkeypatch.delenv("OPENAI_API_KEY")
    said.append(docs_said.missing_key())
    quoted = [
        line
        for block in blocks("troubleshooting.rst")
        if "said" in block.marks
        for line in block.text.splitlines()
    ]
    alike = doctest.OutputChecker().check_output
    unsaid = [
        line for line in quoted if not any(alike(line, one, doctest.ELLIPSIS) for one in said)
    ]
    assert unsaid == []
    assert len(quoted) >= 20


LOGGING = """
import termai_http
from termai_http.testing import Server, Status
termai_http.configure_logging()
with Server() as server:
    server.script(Status(503))
    termai_http.chat("Hi", model="gpt-5.5", base_url=server.openai_url, api_key="x")
"""


def test_the_lines_of_a_script_are_those_on_the_page() -> None:
    """But for figures and ids, a retried call is logged as the page shows it."""

    def plain(lines: str) -> list[str]:
        return re.sub(r"req_\w+|\d+", "0", lines).split("\n")

    done = in_process("-c", LOGGING)
    (shown,) = (block for block in blocks("recipes.rst") if "said" in block.marks)
    assert (plain(done.stderr), done.returncode) == (plain(shown.text), 0)


def test_the_stages_of_a_call_are_the_phases_of_errors() -> None:
    """The table of stages has every phase that an error may name, in its order."""
    documented = str(termai_http.TermaiHttpError.__doc__).partition("phase: ")[2]
    stages = [row[0].strip("`") for row in cells("call.rst", 3) if row[0].startswith("``")]
    assert stages == re.findall(r'``"(\w+)"``', documented)
    errors = re.findall(r"``([A-Z]\w+)``", " ".join(row[2] for row in cells("call.rst", 3)))
    assert set(errors) <= set(termai_http.errors.__all__)


def test_the_types_of_events_are_those_of_a_stream() -> None:
    """The page about streams names each type of event."""
    documented = str(termai_http.StreamEvent.__doc__).partition("text: ")[0]
    assert first_words("streaming.rst", "More than text") == re.findall(r'``"(\w+)"``', documented)


def test_the_figures_to_watch_are_there() -> None:
    """What the page tells to watch are fields of the statistics."""
    watched = first_words("observability.rst", "What to watch")
    assert len(watched) >= 7
    stats = termai_http.stats()
    for name in watched:
        owner, _, field = name.rpartition(".")
        assert field in attrs.fields_dict(type(stats.calls if owner else stats)), name


def test_the_tables_about_django_are_those_of_the_code() -> None:
    """Each entry of the settings with its default, and each check, stands on Django's page."""
    conf = importlib.import_module("termai_http.contrib.django.conf")
    rows = {row[0].strip("`"): row for row in cells("django.rst", 3)[1:]}
    assert sorted(rows) == sorted(field.name.upper() for field in attrs.fields(conf.Options))
    made = conf.Options()
    for entry, (_, default, _) in rows.items():
        value = ast.literal_eval(default.strip("`"))
        own = getattr(made, entry.lower())
        assert (conf.StatusOptions(**value) if entry == "STATUS" else value) == own, entry
    status = attrs.fields_dict(conf.StatusOptions)
    assert set(re.findall(r"``([A-Z]+)``", rows["STATUS"][2])) == {name.upper() for name in status}
    code = (Path(conf.__file__).parent / "checks.py").read_text("utf-8")
    ids = set(re.findall(r"\b[EW]\d{3}\b", code))
    told = [row[0].strip("`").removeprefix("termai_http.") for row in cells("django.rst", 2)[1:]]
    assert sorted(told) == sorted(ids)


# The modules whose names are for users.
PUBLIC = (
    *("batch", "claude", "config", "errors", "events", "layers", "metrics", "models", "openai"),
    *("prices", "testing"),
    "contrib.cache",
    *("testing.plugin", "contrib.django", "contrib.jupyter"),
    "contrib.breaker",
    *("contrib.pacing", "contrib.prometheus"),
    "contrib.tracing",
)
# In modules of users' names, what other modules of the package share.
SHARED = {
    *("batch.batch_with", "config.as_layers", "events.Audience", "events.Listeners"),
    "metrics.CallRecord",
    *("metrics.format_stats", "models.as_messages", "models.is_item", "models.own_messages"),
}
# Modules that a program, a settings file or Django names as a whole, and dialects.
OTHERS = ("cli", "contrib", "dialects", "contrib.django.")


def test_every_module_is_public_or_not() -> None:
    """A new module without an underscore must be put among those whose names are described."""
    found = {
        name
        for _, name, _ in pkgutil.walk_packages(termai_http.__path__)
        if not any(part.startswith("_") for part in name.split("."))
    }
    packages = pkgutil.walk_packages(termai_http.__path__, "termai_http.")
    named = {info.name.removeprefix("termai_http.") for info in packages}
    found |= {name for name in named if not re.search(r"(^|\.)_", name)}
    strangers = {
        name
        for name in found - set(PUBLIC)
        if name not in OTHERS and not name.startswith(("dialects.", "contrib.django."))
    }
    assert strangers == set()


def public_names() -> set[str]:
    """Return every public name, each under the shortest place it is imported from."""
    names = {f"termai_http.{name}" for name in termai_http.__all__ if name != "__version__"}
    for module in PUBLIC:
        loaded = importlib.import_module(f"termai_http.{module}")
        for name in loaded.__all__:
            value = getattr(loaded, name)
            if f"{module}.{name}" not in SHARED and value is not getattr(termai_http, name, None):
                names.add(f"termai_http.{module}.{name}")
    return names


def described_names() -> list[str]:
    """Return every name that the reference describes."""
    names = []
    for path in sorted((DOCS / "api").glob("*.rst")):
        module = ""
        directive = (
            r"^\.\. (currentmodule|(?:py:)?(?:auto)?(?:class|data|exception|function)):: ([\w.]+)"
        )
        for kind, name in re.findall(directive, path.read_text("utf-8"), re.MULTILINE):
            if kind == "currentmodule":
                module = f"{name}."
            else:
                names.append(name if name.startswith("termai_http.") else module + name)
    return names


def test_every_public_name_is_described_once() -> None:
    """The reference has every public name, on one page, and none that is not there."""
    described = described_names()
    assert len(described) == len(set(described))
    fixture = {"termai_http.testing.termai_server"}
    plugin = {"termai_http.testing.plugin.termai_server"}
    assert set(described) - fixture == public_names() - plugin
    assert fixture <= set(described)


def test_every_page_is_in_a_table_of_contents() -> None:
    """A reader finds each page from the first one."""
    named = {"index.rst"}
    for page in ("index.rst", "api/index.rst"):
        text = (DOCS / page).read_text("utf-8")
        for tree in re.findall(r"^\.\. toctree::\n((?:   .*\n|\n)+)", text, re.MULTILINE):
            entries = re.findall(r"^   ([\w/]+)$", tree, re.MULTILINE)
            named |= {f"{(Path(page).parent / entry).as_posix()}.rst" for entry in entries}
    assert named == set(PAGES)


def test_links_to_other_places_are_https() -> None:
    """No page leads a reader over plain http; code and literals may name such places."""
    found = []
    for page in PAGES:
        code = {line.strip() for block in blocks(page) for line in block.text.splitlines()}
        lines = (DOCS / page).read_text("utf-8").splitlines()
        text = "\n".join(line for line in lines if line.strip() not in code)
        found += re.findall(r"\bhttps?://[^\s`>]*", re.sub(r"``[^`]*``", "", text))
    assert [url for url in found if not re.match(r"https://[\w-]+\.[\w.-]+/?", url)] == []


def test_the_check_of_links_finds_what_is_broken(tmp_path: Path) -> None:
    """A missing file, a missing anchor and a link over plain http are told, good links are not."""
    spec = importlib.util.spec_from_file_location("check_links", DOCS / "check_links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here"></a><a href="#top"></a><p id="top"><a href="https://example.org"></a>'
    )
    (tmp_path / "b.html").write_text(
        '<p id="here"><a href="a.html#gone"></a><img src="c.png"><a href="http://example.org"></a>'
    )
    assert module.wrong_links(tmp_path) == [
        "b.html: a.html#gone: no such anchor",
        "b.html: c.png: no such file",
        "b.html: http://example.org: not https, or without a host",
    ]
