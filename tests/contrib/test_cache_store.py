"""Where replies are kept: as plain JSON, bounded, private, and never in the way of a call."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from termai_http import ConfigurationError, HttpClientConfig
from termai_http._call import Clock
from termai_http.contrib import _cache_store
from termai_http.contrib._cache_entry import Entry, pack, unpack
from termai_http.contrib._cache_sqlite import SQLiteStore
from termai_http.contrib._cache_store import MemoryStore, Packed, Store, default_path
from termai_http.contrib.cache import Cache
from tests.contrib.cache_bed import KEY, TestCall, Upstream, ask, build, request

SEAL = b"s" * 32
MIB = 1024 * 1024


def entry(body: bytes = b'{"said":"x"}') -> Entry:
    """Return a reply."""
    return Entry(at=1.5, status=200, headers={"content-type": "text/json"}, body=body)


def packed(text: str = "x", ttl: float | None = None, now: float = 0.0) -> Packed:
    """Return what is put into a store."""
    return Packed.until(text, ttl, now)


def sqlite(path: Path, **fields: Any) -> SQLiteStore:
    """Return a store in a file."""
    return SQLiteStore(path, "n", **{"most": 100, "most_bytes": MIB, "seconds": 10.0, **fields})


@pytest.mark.parametrize("body", [b'{"said":"\xc3\xbc\\u0000"}', b"\xff\x00", b"data: 1\n\n"])
def test_an_entry_comes_back_as_it_was(body: bytes) -> None:
    """Text is kept as text, anything else as base64, and the seal holds for both."""
    text = pack(entry(body), SEAL)
    assert unpack(text, SEAL) == unpack(text.encode(), SEAL) == entry(body)
    assert set(json.loads(text)) == {
        *("v", "at", "status", "headers", "seal"),
        "base64" if body[0] == 0xFF else "body",
    }


@pytest.mark.parametrize(
    "broken",
    [
        pack(entry(), SEAL).replace("200", "201"),
        pack(entry(), SEAL).replace("said", "SAID"),
        pack(entry(), SEAL)[:-3],
        pack(entry(), b"other"),
        *("", "{}", "null", "\ud800", '"' * 200, "é" * 200),
        b"\xff" * 200,
    ],
)
def test_an_entry_that_was_changed_is_none(broken: str | bytes) -> None:
    """One byte that is another, or a seal made without API key and prompt, and it is refused."""
    with pytest.raises(ValueError, match=r"seal|decode|encode|surrogates"):
        unpack(broken, SEAL)


def test_what_stands_in_the_file_is_plain_json(tmp_path: Path) -> None:
    """No pickle, no key and no prompt: the reply alone, under a name that tells nothing."""
    built = build(store=tmp_path / "kept.sqlite")
    assert ask(built, Upstream(), "my secret plan") == {"said": "answer 1", "attempts": 1}
    with sqlite3.connect(tmp_path / "kept.sqlite") as other:
        ((key, value, kind, expires),) = other.execute(
            "SELECT key, value, typeof(value), expires FROM replies"
        ).fetchall()
    other.close()
    said = json.loads(value)
    assert (kind, said["body"]) == ("text", '{"said": "answer 1"}')
    assert said["headers"] == {"x-request-id": "req_1", "content-type": "text/json"}
    assert expires == pytest.approx(said["at"] + 86400, abs=2)
    assert len(key) == len("termai_http:") + 64
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"answer 1" in files
    assert KEY.encode() not in files
    assert b"plan" not in files
    built.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask: the file, those beside it, and the folder that was made for it."""
    before = os.umask(0)
    try:
        path = tmp_path / "new" / "kept.sqlite"
        built = build(store=path)
        ask(built, Upstream())
    finally:
        os.umask(before)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert set(modes) == {"kept.sqlite", "kept.sqlite-wal", "kept.sqlite-shm"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    built.close()


def test_the_file_has_a_place_on_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands where the system keeps a user's caches, and relative wishes are ignored."""
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    monkeypatch.setenv("LOCALAPPDATA", "/x/local")
    found = {}
    for system in ("linux", "darwin", "win32"):
        monkeypatch.setattr(_cache_store.sys, "platform", system)
        found[system] = str(default_path().parent.parent)
    assert found == {
        "linux": "/x/cache",
        "darwin": "/home/me/Library/Caches",
        "win32": "/x/local",
    }
    monkeypatch.setattr(_cache_store.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert default_path() == Path("/home/me/.cache/termai_http/replies.sqlite")
    assert Cache().path == default_path()


def test_without_a_home_a_place_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the argument."""

    def none() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(ConfigurationError, match=r"Cache\(store=\.\.\.\)"):
        Cache().build(HttpClientConfig(), Clock())


@pytest.mark.parametrize("where", ["memory", "file"])
def test_the_oldest_go_first(where: str, tmp_path: Path) -> None:
    """Never more entries than the bound; one that was kept anew is a young one."""
    store: Store = MemoryStore(3, MIB)
    if where == "file":
        store = sqlite(tmp_path / "a.sqlite", most=3)
    for name in ("a", "b", "c", "a", "d"):
        store.put(name, packed(name), 0.0)
    assert [store.get(name) is None for name in "abcd"] == [False, True, False, False]
    store.clear()
    assert store.get("d") is None
    store.reopen()


@pytest.mark.parametrize("where", ["memory", "file"])
def test_what_is_kept_anew_pushes_nothing_out(where: str, tmp_path: Path) -> None:
    """A reply that replaces its older one again and again is one entry all the time."""
    store: Store = MemoryStore(3, MIB)
    if where == "file":
        store = sqlite(tmp_path / "a.sqlite", most=3)
    for name in ("a", "b", *"c" * 20):
        store.put(name, packed(name), 0.0)
    assert all(store.get(name) is not None for name in "abc")
    store.reopen()


def test_a_time_without_an_end_can_be_kept(tmp_path: Path) -> None:
    """A ttl of more seconds than a store can count is none."""
    store = sqlite(tmp_path / "a.sqlite")
    for ttl in (1e19, 1e300):
        store.put(str(ttl), packed("x", ttl), 1e9)
        assert store.get(str(ttl)) == b"x"
        assert packed("x", ttl).expires_delta is None
    store.reopen()


def test_a_file_stays_within_its_bytes(tmp_path: Path) -> None:
    """The oldest make room for the new; what is larger than all of it is not kept."""
    store = sqlite(tmp_path / "a.sqlite", most_bytes=MIB // 2)
    for number in range(40):
        store.put(str(number), packed("x" * 50_000), 0.0)
    kept = [number for number in range(40) if store.get(str(number)) is not None]
    assert kept == list(range(kept[0], 40))
    assert 4 <= len(kept) <= 10
    assert (tmp_path / "a.sqlite").stat().st_size < MIB
    store.put("huge", packed("x" * MIB), 0.0)
    assert store.get("huge") is None
    store.reopen()


def test_memory_stays_within_its_bytes() -> None:
    """The same in memory, also where an entry is kept anew."""
    store = MemoryStore(100, 1000)
    for number in range(30):
        store.put(str(number % 20), packed("x" * 100), 0.0)
    assert [n for n in range(20) if store.get(str(n)) is not None] == list(range(10))
    store.start_over()
    store.put("new", packed("x" * 1000), 0.0)
    assert store.get("9") is None


def test_what_is_too_old_leaves_the_file(tmp_path: Path) -> None:
    """Each entry that is kept takes along those whose time is over."""
    store = sqlite(tmp_path / "a.sqlite")
    store.put("old", packed(ttl=10, now=100.0), 100.0)
    store.put("ever", packed(ttl=None, now=100.0), 100.0)
    store.put("new", packed(ttl=10, now=200.0), 200.0)
    assert [store.get(name) is None for name in ("old", "ever", "new")] == [True, False, False]
    store.reopen()


def test_clearing_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    """Deleted replies are gone from the bytes too, and another namespace's stay."""
    path = tmp_path / "a.sqlite"
    one, two = (build(store=path, namespace=name) for name in ("one", "two"))
    ask(one, Upstream())
    upstream = Upstream()
    upstream.asked.append(b"")
    ask(two, upstream)
    Cache(store=path, namespace="one").clear()
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"answer 1" not in left
    assert b"answer 2" in left
    # Its connection, made before, sees the same.
    assert ask(one, Upstream())["attempts"] == 1
    assert ask(two, Upstream())["attempts"] == 0
    one.close()
    two.close()


def test_clearing_makes_the_file_small(tmp_path: Path) -> None:
    """What was deleted leaves no room behind in which something of it could stand."""
    path = tmp_path / "a.sqlite"
    store = sqlite(path)
    for number in range(10):
        store.put(str(number), packed("x" * 50_000), 0.0)
    store.clear()
    store.reopen()
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 50_000


def test_clearing_memory_clears_that_of_every_client() -> None:
    """An equal description clears, and no other."""
    one, two = build(ttl=5.0), build(ttl=6.0)
    ask(one, Upstream())
    ask(two, Upstream())
    Cache(store="memory", ttl=5.0).clear()
    assert ask(one, Upstream())["attempts"] == 1
    assert ask(two, Upstream())["attempts"] == 0


def test_clearing_what_is_no_store_says_so_and_deletes_nothing(tmp_path: Path) -> None:
    """A path that was mistyped may be a file of the user's."""
    path = tmp_path / "notes.txt"
    path.write_text("my notes, which are none of a cache's business " * 100)
    with pytest.raises(ConfigurationError, match=r"cannot be cleared.*not a database"):
        Cache(store=path).clear()
    assert path.read_text().startswith("my notes")


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of."""
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def broken_files(tmp_path: Path) -> dict[str, Path]:
    """Return paths that no database can be had at."""
    text = tmp_path / "text.sqlite"
    text.write_bytes(b"this is no database" * 1000)
    folder = tmp_path / "folder.sqlite"
    folder.mkdir()
    return {"corrupt": text, "folder": folder, "below a file": text / "a.sqlite"}


@pytest.mark.parametrize("kind", ["corrupt", "folder", "below a file"])
def test_a_store_that_cannot_be_had_costs_a_warning(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every call is made, one warning says why, and it holds no prompt and no key."""
    now = [0.0]
    clock = Clock(monotonic=lambda: now[0])
    built = build(clock, store=broken_files(tmp_path)[kind])
    upstream = Upstream()
    for _ in range(5):
        ask(built, upstream, "my secret plan", call=TestCall(clock=clock))
    assert len(upstream.asked) == 5
    assert len(warned(caplog)) == 1
    assert KEY not in caplog.text
    assert "plan" not in caplog.text
    # It was left alone meanwhile, and is asked again later.
    assert built.stats() == attrs.evolve(built.stats(), errors=1, misses=5, stored=0)
    now[0] += 61.0
    ask(built, upstream, call=TestCall(clock=clock))
    assert built.stats().errors == 2
    assert len(warned(caplog)) == 2
    built.close()


def test_a_locked_file_is_read_and_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process writes, kept replies still answer; keeping one is given up."""
    path = tmp_path / "a.sqlite"
    built = build(store=path, store_timeout=0.02)
    upstream = Upstream()
    ask(built, upstream, "kept")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert ask(built, upstream, "kept")["attempts"] == 0
    # Tried once: what follows is not even tried for a while, but read.
    assert [ask(built, upstream, said)["attempts"] for said in ("new", "newer")] == [1, 1]
    assert ask(built, upstream, "kept")["attempts"] == 0
    assert built.stats().errors == 1
    assert warned(caplog) == [
        f"Cache: the file {str(path)!r} failed (database is locked); calls are made as if there "
        "were none"
    ]
    other.execute("ROLLBACK")
    other.close()
    built.close()


def test_a_file_that_others_open_at_the_same_time_is_used(tmp_path: Path) -> None:
    """Where the log cannot be switched on just now, the file is read without it."""
    path = tmp_path / "a.sqlite"
    store = sqlite(path, seconds=0.02)
    store.put("a", packed(), 0.0)
    store.reopen()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN")
    assert other.execute("SELECT count(*) FROM replies").fetchone() == (1,)
    assert store.get("a") == b"x"
    other.close()
    store.reopen()


def test_a_second_client_leaves_the_first_ones_locks_alone(tmp_path: Path) -> None:
    """To open and close a file in any other way than SQLite's would end all of the process's."""
    path = tmp_path / "a.sqlite"
    first, second = sqlite(path), sqlite(path)
    first.put("a", packed(), 0.0)
    assert second.get("a") == b"x"
    second.reopen()
    code = (
        "import sqlite3, sys\n"
        "other = sqlite3.connect(sys.argv[1], timeout=0)\n"
        "print(other.execute('PRAGMA journal_mode=DELETE').fetchone())\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, str(path)], capture_output=True, text=True, timeout=60
    )
    assert "database is locked" in done.stderr, done.stdout
    first.reopen()


def test_a_full_file_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be written any more, the call has its reply all the same."""
    store = sqlite(tmp_path / "a.sqlite")
    store.put("a", packed("x"), 0.0)
    with store._table().connection() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
    guard = _cache_store.Guard(store, Clock())
    assert guard.use(lambda: store.put("b", packed("x" * 100_000), 0.0)) == (True, None)
    assert "full" in warned(caplog)[0]
    assert store.get("a") == b"x"
    assert store.get("b") is None
    store.reopen()


def test_threads_do_not_wait_for_each_other_without_end(tmp_path: Path) -> None:
    """Where one holds the file for too long, the others do without it."""
    store = sqlite(tmp_path / "a.sqlite", seconds=0.02)
    store.put("a", packed(), 0.0)
    with (
        store._table().connection(),
        pytest.raises(sqlite3.OperationalError, match="for too long"),
    ):
        store.get("a")
    assert store.get("a") == b"x"
    store.reopen()


def test_what_was_torn_away_is_undone(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a change leaves the file as it was, and in use."""
    store = sqlite(tmp_path / "a.sqlite")
    store.put("a", packed(), 0.0)

    def tear() -> None:
        with store._table().connection(commit=True) as connection:
            connection.execute("DELETE FROM replies")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tear()
    assert store.get("a") == b"x"
    store.put("b", packed(), 0.0)
    store.reopen()


def test_an_entry_that_was_changed_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The call is made, and its reply takes the place of the entry."""
    path = tmp_path / "a.sqlite"
    built = build(store=path)
    ask(built, Upstream())
    with sqlite3.connect(path) as other:
        other.execute("UPDATE replies SET value = replace(value, 'answer 1', 'forged 1')")
    other.close()
    upstream = Upstream()
    assert ask(built, upstream)["attempts"] == 1
    assert ask(built, upstream)["attempts"] == 0
    assert built.stats().errors == 1
    assert "not as it was written" in warned(caplog)[0]
    built.close()


def test_a_call_with_little_time_left_does_without_the_store(tmp_path: Path) -> None:
    """What may take longer than the call has is not begun."""
    built = build(store=tmp_path / "a.sqlite", store_timeout=5.0)
    upstream = Upstream()
    for _ in range(2):
        assert ask(built, upstream, call=TestCall(4.0))["attempts"] == 1
    assert not list(tmp_path.iterdir())
    assert built.stats().stored == 0
    built.close()


def test_any_mapping_of_text_is_a_store() -> None:
    """One of the user's is made at first use, and what it raises is not shown."""
    kept: dict[str, str] = {}
    built = build(store=lambda: kept)
    upstream = Upstream()
    assert [ask(built, upstream)["attempts"] for _ in range(2)] == [1, 0]
    assert [type(value) for value in kept.values()] == [Packed]
    built.close()


@pytest.mark.parametrize("odd", [object(), {"a": 1}, ["x"], 3.5, 10**15, -1, None, "", b"\xff"])
def test_whatever_a_mapping_holds_breaks_no_call(odd: Any) -> None:
    """What is no text costs a warning, and the call is made."""

    class Odd(dict[str, Any]):
        def __getitem__(self, row: str) -> Any:
            return odd

    assert ask(build(store=Odd), Upstream())["attempts"] == 1


def test_what_a_mapping_of_the_users_raises_is_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may hold a reply."""

    class Odd(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            raise ValueError(f"cannot keep {value}")

    built = build(store=Odd)
    ask(built, Upstream())
    assert warned(caplog) == [
        "Cache: the store failed (ValueError); calls are made as if there were none"
    ]


def test_a_mapping_that_pickles_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The backends of requests-cache do unless they are told not to; then they are stores."""
    from requests_cache.backends.filesystem import FileDict
    from requests_cache.backends.sqlite import SQLiteDict

    place = str(tmp_path / "a.sqlite")
    built = build(store=lambda: SQLiteDict(place))
    assert [ask(built, Upstream())["attempts"] for _ in range(2)] == [1, 1]
    assert "serializer=None" in warned(caplog)[0]
    built.close()
    built = build(store=lambda: FileDict(tmp_path / "files", serializer=None))
    assert [ask(built, Upstream())["attempts"] for _ in range(2)] == [1, 0]
    (kept,) = (tmp_path / "files").iterdir()
    assert json.loads(kept.read_text())["status"] == 200
    built.close()


def test_a_description_is_a_value() -> None:
    """Equal ones are equal, a path is one however it is given, and a password is not shown."""
    assert Cache() == Cache(store=None)
    assert hash(Cache(store="a.sqlite")) == hash(Cache(store=Path("a.sqlite")))
    assert Cache(store="~/a.sqlite").path == Path.home() / "a.sqlite"
    assert pickle.loads(pickle.dumps(Cache(store="a.sqlite", ttl=None))) == Cache(
        store="a.sqlite", ttl=None
    )
    shown = repr(Cache(store="redis://me:hunter2@host:6380/1?password=hunter3"))
    assert "hunter" not in shown
    assert "redis://host:6380/1" in shown


@pytest.mark.parametrize(
    "fields",
    [
        *({"store": ""}, {"store": 5}, {"store": "http://host/"}, {"store": "a\0b"}),
        *({"store": "redis://[::1/0"}, {"store": "redis://host:port/0"}, {"store": "unix://"}),
        *({"store": "redis://host:99999/0"}, {"store": "redis://host:0/0"}),
        *({"ttl": 0}, {"ttl": "1"}, {"store_timeout": None}, {"store_timeout": -1.0}),
        *({"max_entries": 0}, {"max_bytes": 1.5}, {"max_entry_bytes": True}),
        *({"namespace": ""}, {"namespace": "a-b"}, {"namespace": "a:b"}, {"namespace": None}),
    ],
)
def test_a_description_is_checked_where_it_is_made(fields: dict[str, Any]) -> None:
    """The error names the field."""
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        Cache(**fields)


@pytest.mark.parametrize("url", ["redis://me:hunter2@[::1/0", "redis://me:hunter2@host:port/0"])
def test_a_url_that_is_refused_is_not_shown(url: str) -> None:
    """It may hold a password, in the error and in what the error came from."""
    with pytest.raises(ConfigurationError) as refused:
        Cache(store=url)
    error: BaseException | None = refused.value
    assert "hunter" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.parametrize(
    ("store", "module", "said"),
    [
        (None, "_cache_sqlite", r'pip install "termai-http\[cache\]"'),
        ("redis://host", "_cache_redis", r'pip install "termai-http\[cache\]" redis'),
    ],
)
def test_a_missing_library_names_what_to_install(
    store: str | None, module: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told when the client is made; in memory nothing is needed."""
    monkeypatch.setitem(sys.modules, f"termai_http.contrib.{module}", None)
    with pytest.raises(ConfigurationError, match=said):
        Cache(store=store).build(HttpClientConfig(), Clock())
    assert ask(build(), Upstream(), call=TestCall())["attempts"] == 1


def test_what_tells_clients_apart_tells_their_replies_apart(tmp_path: Path) -> None:
    """Two clients with certificates of their own share a file and no reply."""
    path = tmp_path / "a.sqlite"
    upstream = Upstream()
    for name in ("one.pem", "two.pem"):
        config = HttpClientConfig(client_cert=name)
        built = Cache(store=path).build(config, Clock())
        assert built.around_call(request(), upstream).value["attempts"] == 1
        built.close()
