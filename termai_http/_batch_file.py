"""The results file of ``chat_many(output=...)``: appended to, locked, scanned, read again."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import Any

import attrs

from . import _batch_lines
from ._batch_places import NOWHERE, Places
from ._fork import take_part
from ._importing import importing
from ._log import log
from .errors import CallCancelled, ConfigurationError, TermaiHttpError
from .models import ChatRequest, ChatResponse

__all__ = ["ResultFile", "check_path"]

_BLOCK = 1 << 20
_READ = 1 << 16
# The byte that Windows locks, and lets no other process read: behind what most files have.
_LOCKED_AT = (1 << 31) - 2
_CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def check_path(path: Any) -> str:
    """Check where results are to go, and return it as an absolute path.

    The file is made where there is none. Its first line is looked at, no more.

    Raises:
        ConfigurationError: It is no path, its folder does not exist, it is a directory, cannot be
            written, is in use, or is a file of another kind, which is left as it is.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise ConfigurationError(
            f"output must be the path of a file for the results, not {type(path).__name__}."
        )
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise ConfigurationError(f"output must be the path of a file, not {name!r}.")
    absolute = os.path.abspath(name)
    descriptor, regular = _open(absolute)
    try:
        begin = os.read(descriptor, _READ) if regular else b""
    finally:
        os.close(descriptor)
    first, feed, _ = begin.lstrip(b"\r\n").partition(b"\n")
    whole = bool(feed) or len(begin) < _READ
    known = not whole or _batch_lines.head_of(first) is not None
    if not known and (feed or not _batch_lines.begins_like_ours(first)):
        raise _foreign(absolute, 1)
    return absolute


class ResultFile:
    """One open results file, in JSON Lines, which no other process or batch writes to meanwhile.

    Made, it is locked and scanned: what is in it is known by index, 16 bytes each. Of several
    replies to an index the last one counts; a last line that was cut is taken off. Every method is
    safe from any thread. In a forked child the file is closed.

    Args:
        path: As ``check_path`` returned it.

    Raises:
        ConfigurationError: It cannot be opened, is in use, or holds a line that is no result of
            ours: then it is left as it is.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._mutex = threading.Lock()
        self._places = Places()
        self._block, self._block_at = b"", 0
        self._descriptor, self._regular = _open(path)
        try:
            if self._regular:
                self._scan()
        except BaseException:
            self.close()
            raise
        take_part(self)

    def found(self, index: int, digest: int) -> bool:
        """Tell whether the reply of an item was there when the file was opened.

        An error that is there counts for nothing: the item is asked again, also as another one,
        once ``proves`` told that the file is this job's.

        Args:
            index: The item's.
            digest: What ``Digester.of`` gives for it.

        Raises:
            ConfigurationError: A reply is there, to something else: the input changed.
        """
        there = self._places.get(index)
        if there is None:
            return False
        if there[0] != digest:
            raise self.changed(index)
        return True

    def changed(self, index: int) -> ConfigurationError:
        """Return the error for an index whose line belongs to another request."""
        return ConfigurationError(
            f"{self.path}: the result with index {index} belongs to another request: the input, "
            "or the model or another option, changed since it was written. Run with what was "
            "given then, or name another output file; without its line, the item is asked "
            "again."
        )

    def failed_digest(self, index: int) -> int | None:
        """Return whose error is there, 0 for nobody's; None where no error is, or a reply."""
        return self._places.failed(index)

    @property
    def replies(self) -> int:
        """How many items had a reply when the file was opened."""
        return self._places.replies

    def replies_from(self, index: int) -> int:
        """Return how many of them have this index or a higher one."""
        return self._places.replies_from(index)

    def read(self, index: int, request: ChatRequest | None = None) -> ChatResponse:
        """Return a reply that ``found`` told of, without headers and raw body.

        Args:
            index: The item's.
            request: The item itself, whose ``output`` says what ``parsed`` is; None without.

        Raises:
            ConfigurationError: Its line cannot be read.
            OutputError: The text does not fit ``output`` any more.
        """
        there = self._places.get(index)
        assert there is not None, "found() comes first"
        with self._mutex:
            line = self._line_at(there[1])
        try:
            reply = _batch_lines.decode(line)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.path}: the line of index {index} cannot be read: {error}. Take it out, and "
                "the item is asked again."
            ) from None
        if request is None or request.output is None or reply.tool_calls:
            return reply
        return attrs.evolve(reply, parsed=_parsed(reply, request.output))

    def append(
        self, index: int, id: str | int | None, digest: int, value: ChatResponse | TermaiHttpError
    ) -> None:
        """Add the result of an item, in one write; a cancelled call's is none.

        After ``close()`` nothing is written: the item counts as not done.

        Raises:
            OSError: It cannot be written, the disk is full for example. What was written of it is
                taken off again, so that every line of the file stays whole.
        """
        if isinstance(value, CallCancelled):
            return
        line = _batch_lines.encode(index, id, digest, value)
        with self._mutex:
            if self._descriptor >= 0:
                self._write(line)

    def close(self) -> None:
        """Close the file and let others write to it; further calls change nothing."""
        with self._mutex:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def locks(self) -> list[Any]:
        """Return the lock that is held while something is written, for a fork."""
        return [self._mutex]

    def start_over(self) -> None:
        """Close the file in a forked child, which would keep it locked for as long as it lives."""
        self._mutex = threading.Lock()
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    def _write(self, line: bytes) -> None:
        before = os.fstat(self._descriptor).st_size
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BaseException as error:
            if self._regular and os.fstat(self._descriptor).st_size != before + len(line):
                os.ftruncate(self._descriptor, before)
            if isinstance(error, OSError):
                raise _unwritten(error, self.path) from None
            raise

    def _scan(self) -> None:
        number, offset = 0, 0
        parts: list[bytes] = []
        while block := os.read(self._descriptor, _BLOCK):
            parts.append(block)
            if b"\n" not in block:
                continue
            lines = b"".join(parts).split(b"\n")
            parts = [lines.pop()]
            offset = self._take(lines, number, offset)
            number += len(lines)
        last = b"".join(parts)
        if last:
            self._end(last, number, offset)

    def _take(self, lines: list[bytes], number: int, offset: int) -> int:
        """Take whole lines in, and return the offset behind them."""
        head_of, put = _batch_lines.head_of, self._places.put
        for at, line in enumerate(lines, number + 1):
            head = head_of(line)
            if head is not None:
                # An error counts for nothing, also after a reply, which is paid.
                put(head[0], head[1], offset if head[2] else NOWHERE)
            elif line.strip():
                raise _foreign(self.path, at)
            offset += len(line) + 1
        return offset

    def _end(self, last: bytes, number: int, offset: int) -> None:
        """Deal with a last line that has no line feed: whole, or cut by a kill."""
        if _batch_lines.head_of(last) is not None:
            self._take([last], number, offset)
            self._write(b"\n")
        elif _batch_lines.begins_like_ours(last):
            os.ftruncate(self._descriptor, offset)
        else:
            raise _foreign(self.path, number + 1)

    def _line_at(self, offset: int) -> bytes:
        """Return the line that begins there; neighbours come from one block."""
        at = offset - self._block_at
        end = self._block.find(b"\n", at) if 0 <= at < len(self._block) else -1
        if end < 0:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            parts = []
            while block := os.read(self._descriptor, _READ):
                parts.append(block)
                if b"\n" in block:
                    break
            self._block, self._block_at, at = b"".join(parts), offset, 0
            end = self._block.find(b"\n")
        return self._block[at:end]


def _parsed(reply: ChatResponse, output: Any) -> Any:
    with importing():
        from ._output import as_output, read_output
        from .dialects._base import Decoded
    decoded = Decoded(
        text=reply.text,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        model=reply.model,
        id=reply.id,
        raw=reply.raw,
        refusal=reply.refusal,
    )
    return read_output(as_output(output), decoded)


def _open(path: str) -> tuple[int, bool]:
    """Open a file to append to, locked if it is a regular one; tell whether it is.

    What is none, ``/dev/null`` for example, is not locked and never read.
    """
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise _unusable(path, _why(error, path)) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            _lock(descriptor, path)
        elif not stat.S_ISCHR(mode):
            raise _unusable(path, "it is no file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, stat.S_ISREG(mode)


def _unusable(path: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"The results file {path} cannot be written: {why}.")


def _why(error: OSError, path: str) -> str:
    if os.path.isdir(path):
        return f"it is a directory; name a file in it, as {os.path.join(path, 'results.jsonl')}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(os.path.dirname(path)):
        return "its folder does not exist; make it first"
    return error.strerror or str(error)


def _lock(descriptor: int, path: str) -> None:
    """Lock a file for as long as it is open.

    Raises:
        ConfigurationError: Somebody else has.
    """
    try:
        try:
            import fcntl
        except ImportError:
            _lock_on_windows(descriptor)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise ConfigurationError(
                f"The results file {path} is in use by another batch. Wait for its end, or name "
                "another file."
            ) from None
        # Some network file systems have no locks.
        log.warning("The results file cannot be locked (%s): run one batch on it", error.strerror)


def _lock_on_windows(descriptor: int) -> None:
    import msvcrt

    os.lseek(descriptor, _LOCKED_AT, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def _foreign(path: str, line: int) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is no results file of this job: its line {line} is no result of ours. It was left "
        "as it is; name another output file, or take that line out."
    )


def _unwritten(error: OSError, path: str) -> OSError:
    why = error.strerror or str(error)
    hint = "every line of it is whole: make room and run again, and only what is missing is asked"
    return OSError(error.errno, f"The result cannot be written: {why} ({hint})", path)
