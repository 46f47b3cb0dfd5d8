"""Entries in an SQLite file, by the backend of requests-cache.

Its own way to connect waits for a locked file without end, and swallows what then fails; so that
is done here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from requests_cache.backends.sqlite import SQLiteDict

from ._cache_store import Packed, Store

__all__ = ["SQLiteStore"]

_SHARE_OF_ROWS = 8
# The most waits of one use: for other threads, and for other processes at three statements.
_WAITS = 4
# Connections that a fork copied, by path. They may not be used there, nor closed; and as SQLite
# believes to have their locks, no other one is safe there either.
_left_behind: dict[Path, Any] = {}


class _Table(SQLiteDict):  # type: ignore[misc, type-arg, unused-ignore]
    """The table of a file, on one connection. Safe from any thread."""

    _connection: sqlite3.Connection | None = None

    def __init__(self, path: Path, seconds: float) -> None:
        self._gate = threading.Lock()
        self._path = path
        self._seconds = seconds
        _make_folder(path)
        # Values are text, written and read as they are: nothing of it is ever unpickled.
        super().__init__(path, table_name="replies", serializer=None, retries=0)

    def init_db(self) -> None:
        """Do nothing: the table is made where the connection is, in bounded time."""

    @contextlib.contextmanager
    def connection(self, commit: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend the connection; with ``commit`` in a transaction that is undone where it fails."""
        if not self._gate.acquire(timeout=self._seconds):
            raise sqlite3.OperationalError("other threads use it for too long")
        try:
            if self._path in _left_behind:
                raise sqlite3.OperationalError("it was open when this process was forked")
            connection = self._connection
            if connection is None:
                connection = self._connection = self._connect()
            if not commit:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        finally:
            self._gate.release()

    def _connect(self) -> sqlite3.Connection:
        _make_folder(self._path)
        # Replies are private. SQLite gives the files beside it the same mode. One that is there is
        # not opened here: to close it would end all locks that this process has on it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=self._seconds, isolation_level=None, check_same_thread=False
        )
        try:
            connection.text_factory = bytes
            with contextlib.suppress(sqlite3.OperationalError):
                # Where two make the file at once, one may be refused without a wait; both have it.
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS replies"
                " (key TEXT PRIMARY KEY, value BLOB, expires INTEGER)"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS replies_expire ON replies(expires)")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._gate.acquire(timeout=self._seconds):
            try:
                self._close()
            finally:
                self._gate.release()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # Before a fork, as if the connection were a lock: the child then has none to be wrong about.

    def acquire(self, timeout: float) -> bool:
        """Let nobody use the connection, and close it."""
        taken = self._gate.acquire(timeout=timeout)
        if taken:
            with contextlib.suppress(sqlite3.Error):
                self._close()
        return taken

    def release(self) -> None:
        """Undo ``acquire``; the next use opens a connection."""
        self._gate.release()

    def start_over(self) -> None:
        """Go on in a forked child."""
        self._gate = threading.Lock()
        connection, self._connection = self._connection, None
        if connection is not None:
            _left_behind[self._path] = connection


def _make_folder(path: Path) -> None:
    os.makedirs(path.parent, mode=0o700, exist_ok=True)


class SQLiteStore(Store):
    """Entries in an SQLite file. Safe from any thread, and with other processes.

    Args:
        path: The file, made at first use.
        namespace: What the names of its entries begin with.
        most: Most entries of the file.
        most_bytes: Most bytes that the file has in use.
        seconds: How long one use of it may take.
    """

    def __init__(
        self, path: Path, namespace: str, *, most: int, most_bytes: int, seconds: float
    ) -> None:
        self.where = f"the file {str(path)!r}"
        self.slowest = seconds
        self._path, self._begin = path, f"{namespace}:"
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._made: _Table | None = None

    def _table(self) -> _Table:
        table = self._made
        if table is None:
            with self._lock:
                table = self._made
                if table is None:
                    table = self._made = _Table(self._path, self.slowest / _WAITS)
        return table

    def get(self, row: str) -> bytes | None:
        try:
            found: bytes | None = self._table()[self._begin + row]
        except KeyError:
            return None
        return found

    def put(self, row: str, packed: Packed, now: float) -> None:
        table = self._table()
        table[self._begin + row] = packed
        with table.connection(commit=True) as connection:
            self._bound(connection, now)

    def _bound(self, connection: sqlite3.Connection, now: float) -> None:
        """Delete what is too old, then the oldest that are too many. New rows have higher ids."""
        connection.execute("DELETE FROM replies WHERE expires <= ?", (int(now),))
        # By their number, not by their ids: a reply that replaces an older one has a new id.
        connection.execute(
            "DELETE FROM replies WHERE rowid IN (SELECT rowid FROM replies ORDER BY rowid"
            " LIMIT max((SELECT count(*) FROM replies) - ?, 0))",
            (self._most,),
        )
        while self._in_use(connection) > self._most_bytes:
            first, last = connection.execute(
                "SELECT min(rowid), max(rowid) FROM replies"
            ).fetchone()
            if first is None:
                return
            until = first + (last - first) // _SHARE_OF_ROWS
            connection.execute("DELETE FROM replies WHERE rowid <= ?", (until,))

    @staticmethod
    def _in_use(connection: sqlite3.Connection) -> int:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {what}").fetchone()[0])
            for what in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def clear(self) -> None:
        with self._table().connection(commit=True) as connection:
            connection.execute(
                "DELETE FROM replies WHERE key >= ? AND key < ?", (self._begin, self._begin + "~")
            )
        with self._table().connection() as connection:
            # So that nothing of them is left in the file, and in the log beside it.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def reason(self, error: Exception) -> str:
        if isinstance(error, (sqlite3.Error, OSError)):
            return getattr(error, "strerror", None) or str(error)
        return super().reason(error)

    def reopen(self) -> None:
        with self._lock:
            table, self._made = self._made, None
        if table is not None:
            table.close()

    def locks(self) -> list[Any]:
        table = self._made
        return [self._lock, *([] if table is None else [table])]

    def start_over(self) -> None:
        self._lock = threading.Lock()
        if self._made is not None:
            self._made.start_over()
