"""The results file of a batch: what is written, what is found again, what is refused."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from termai_http import _batch_file
from termai_http._batch_digest import Digester
from termai_http._batch_file import ResultFile, check_path
from termai_http._batch_lines import begins_like_ours, decode, encode, head_of
from termai_http._options import CallOptions
from termai_http.errors import (
    CallCancelled,
    ConfigurationError,
    OutputError,
    RateLimitError,
    TermaiHttpError,
)
from termai_http.models import ChatRequest, ChatResponse, Message, ToolCall, Usage

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
DIGEST = 0x0123456789ABCDEF


def reply(text: str = "Because.", **fields: Any) -> ChatResponse:
    """Make a reply."""
    usual: dict[str, Any] = {
        "text": text,
        "finish_reason": "stop",
        "usage": Usage(input_tokens=3, output_tokens=5, cached_tokens=1, reasoning_tokens=2),
        "model": "gpt-5.5",
        "id": "chatcmpl-1",
        "request_id": "req_1",
        "status_code": 200,
        "headers": {"x-request-id": "req_1"},
        "attempts": 2,
        "elapsed": 1.25,
        "raw": {"choices": []},
        "provider": "openai",
        "messages": ({"role": "assistant", "content": text},),
        "texts": (text,),
    }
    return ChatResponse(**{**usual, **fields})


def filled(path: Path, count: int = 3) -> Path:
    """Write a file of ours with so many replies."""
    lines = [encode(index, None, DIGEST + index, reply(f"r{index}")) for index in range(count)]
    path.write_bytes(b"".join(lines))
    return path


def found(path: Path, most: int = 10) -> list[int]:
    """Return the indices whose replies a file has, with the digests of ``filled``."""
    file = ResultFile(check_path(path))
    try:
        return [index for index in range(most) if file.found(index, DIGEST + index)]
    finally:
        file.close()


def test_a_line_is_one_object_that_anybody_reads() -> None:
    """A reply is a line of JSON, index and digest first, with id, text, usage and figures."""
    line = encode(7, "a-7", DIGEST, reply("Grüße\nan alle \u2028"))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert "Grüße" in line.decode()
    assert json.loads(line) == {
        "index": 7,
        "digest": "0123456789abcdef",
        "id": "a-7",
        "text": "Grüße\nan alle \u2028",
        "model": "gpt-5.5",
        "provider": "openai",
        "finish_reason": "stop",
        "usage": {
            "input_tokens": 3,
            "output_tokens": 5,
            "cached_tokens": 1,
            "reasoning_tokens": 2,
        },
        "response_id": "chatcmpl-1",
        "request_id": "req_1",
        "attempts": 2,
        "elapsed": 1.25,
    }


def test_an_error_is_a_line_with_its_class_and_figures() -> None:
    """An error keeps class, message, status, request id and whether it may have been billed."""
    error = RateLimitError(
        "Too many.", status_code=429, request_id="req_9", attempts=3, elapsed=2.0004, code="tpm"
    )
    assert json.loads(encode(0, None, DIGEST, error)) == {
        "index": 0,
        "digest": "0123456789abcdef",
        "error": {
            "type": "RateLimitError",
            "message": "Too many.",
            "status_code": 429,
            "code": "tpm",
            "request_id": "req_9",
            "attempts": 3,
            "maybe_billed": False,
            "elapsed": 2.0,
        },
    }


CALLS = (
    ToolCall(id="c1", name="look", arguments={"at": "Ä"}, text='{"at": "Ä"}'),
    ToolCall(id="c2", name="broken", arguments=None, text='{"at'),
)


@pytest.mark.parametrize(
    "given",
    [
        reply(),
        reply(""),
        reply("", messages=(), texts=()),
        reply('Zażółć 漢字 \U0001f600 \x00\x7f\r\n\t"\\'),
        reply("half \ud800 of a pair"),
        reply("", tool_calls=CALLS, finish_reason="tool_calls"),
        reply("a", texts=("a", "b"), thinking="hm", refusal="no", status_code=201, cost=0.0125),
        reply("a", messages=({"role": "assistant", "content": [{"type": "text", "text": "a"}]},)),
        reply("x" * 5_000_000),
    ],
    ids=["plain", "empty", "nothing", "signs", "surrogate", "tools", "rare", "messages", "huge"],
)
def test_a_reply_comes_back_as_it_was(tmp_path: Path, given: ChatResponse) -> None:
    """What was appended is read again from the file, all but headers and the raw body."""
    path = check_path(tmp_path / "out.jsonl")
    first = ResultFile(path)
    for index, value in enumerate((reply("before"), given, reply("after"))):
        first.append(index, None, DIGEST, value)
    first.close()
    again = ResultFile(path)
    assert [again.found(index, DIGEST) for index in range(4)] == [True, True, True, False]
    assert again.read(2).text == "after"
    assert again.read(1) == attrs.evolve(given, headers={}, raw={})
    assert again.read(0).text == "before"
    again.close()


@pytest.mark.parametrize("id", [None, 5, -1, "plain", 'with " and \\', "ünï \ud800", "text"])
@pytest.mark.parametrize("value", [reply(), RateLimitError("no")], ids=["reply", "error"])
def test_a_head_is_read_with_every_id(id: str | int | None, value: Any) -> None:
    """Index, digest and kind are read whatever the id is."""
    line = encode(12, id, DIGEST, value)
    assert head_of(line[:-1]) == (12, DIGEST, isinstance(value, ChatResponse))


def test_lines_that_others_wrote_anew_are_read() -> None:
    """A line of other spaces, order or line ends is one of ours all the same."""
    fields = json.loads(encode(3, "a", DIGEST, reply()))
    for line in (
        json.dumps(fields, separators=(",", ":")),
        json.dumps(dict(reversed(fields.items()))),
        json.dumps(fields) + "\r",
        "  " + json.dumps(fields),
    ):
        assert head_of(line.encode()) == (3, DIGEST, True)
        assert decode(line.encode()).text == "Because."


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"{}",
        b"[1]",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"\0" * 40,
        b'{"index": 1, "digest": "0123456789abcdef"}',
        b'{"index": 1, "digest": "0123456789abcdef", "text": null}',
        b'{"index": 1, "digest": "0123456789abcdef", "text": "cut',
        b'{"index": -1, "digest": "0123456789abcdef", "text": ""}',
        b'{"index": true, "digest": "0123456789abcdef", "text": ""}',
        b'{"index": 1e3, "digest": "0123456789abcdef", "text": ""}',
        b'{"index": 9999999999999999999, "digest": "0123456789abcdef", "text": ""}',
        b'{"index": 1, "digest": "xyz", "text": ""}',
        b'{"index": 1, "digest": 5, "text": ""}',
        b'{"index": 1, "text": "no digest"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_result_has_no_head(line: bytes) -> None:
    """A line of anything else is told from one of ours."""
    assert head_of(line) is None


def test_every_begin_of_a_line_of_ours_is_known() -> None:
    """Wherever a kill cuts a line, the rest is known as one of ours; other text is not."""
    line = encode(123, "a", DIGEST, reply("Größe"))
    assert all(begins_like_ours(line[:length]) for length in range(len(line)))
    assert begins_like_ours(line[:50] + bytes(100))
    for other in (
        b"hello",
        b'{"index": "a"',
        b'{"id": 1',
        b'{"index":1',
        b"[",
        b'{"index": 1, "na',
    ):
        assert not begins_like_ours(other)


def test_what_is_missing_or_failed_is_not_found(tmp_path: Path) -> None:
    """The last reply to an index is found, also where an error came after it; errors are not."""
    path = tmp_path / "out.jsonl"
    error = RateLimitError("later")
    lines = [(0, reply("old")), (2, error), (4, reply()), (2, error), (0, reply("new")), (5, error)]
    lines += [(5, reply("at last")), (4, error)]
    path.write_bytes(b"".join(encode(at, None, DIGEST + at, value) for at, value in lines))
    file = ResultFile(check_path(path))
    assert [at for at in range(9) if file.found(at, DIGEST + at)] == [0, 4, 5]
    assert [file.read(at).text for at in (0, 5)] == ["new", "at last"]
    file.close()


def test_places_far_apart_cost_no_memory(tmp_path: Path) -> None:
    """An index of billions is found as any other, without an array up to it."""
    path = tmp_path / "out.jsonl"
    indices = (3, 10**14, 9, 5 * 10**12, 2)
    path.write_bytes(b"".join(encode(at, None, DIGEST, reply(str(at))) for at in indices))
    file = ResultFile(check_path(path))
    assert [file.read(at).text for at in indices if file.found(at, DIGEST)] == list(
        map(str, indices)
    )
    assert not file.found(10**13, DIGEST)
    file.close()


@pytest.mark.parametrize("cut", [1, 2, 30, 60, 200])
def test_a_half_written_last_line_is_taken_off(tmp_path: Path, cut: int) -> None:
    """What a kill left of a line goes; the lines before it stay, and the next is whole."""
    path = filled(tmp_path / "out.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + encode(3, None, DIGEST + 3, reply("x" * 300))[:cut])
    file = ResultFile(check_path(path))
    assert path.read_bytes() == whole
    file.append(3, None, DIGEST + 3, reply("again"))
    file.close()
    assert found(path) == [0, 1, 2, 3]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 4


def test_a_file_of_half_a_line_alone_begins_anew(tmp_path: Path) -> None:
    """A kill during the very first line leaves a file that can be used."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(encode(0, None, DIGEST, reply())[:25])
    assert found(path) == []
    assert path.read_bytes() == b""


def test_a_last_line_without_its_line_feed_counts(tmp_path: Path) -> None:
    """A line that is whole but for the line feed, as editors leave it, is kept and ended."""
    path = filled(tmp_path / "out.jsonl")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    file = ResultFile(check_path(path))
    assert file.found(2, DIGEST + 2)
    file.append(3, None, DIGEST + 3, reply())
    file.close()
    assert found(path) == [0, 1, 2, 3]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    """A blank line, as editors leave it, is no harm anywhere."""
    path = filled(tmp_path / "out.jsonl")
    path.write_bytes(b"\n" + path.read_bytes().replace(b"\n", b"\n\r\n") + b"\n")
    assert found(path) == [0, 1, 2]


FOREIGN = {
    "text": b"hello\nworld\n",
    "one line": b"hello",
    "binary": bytes(range(256)) * 300,
    "gzip": b"\x1f\x8b\x08\x00" + bytes(range(1, 90)) * 2000,
    "json": b'{"a": 1}\n{"a": 2}\n',
    "array": b"[\n1,\n2\n]\n",
    "prompts": b'{"id": "a", "prompt": "hi"}\n',
    "numbered": b'{"index": 0, "text": "hi"}\n',
    "numbered, cut": b'{"index": 0, "text": "hi',
    "csv": b"index,text\n0,hi\n",
    "utf-16": '{"index": 0}\n'.encode("utf-16"),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_of_another_job_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    """What holds something else is refused when it is given, and stays as it is."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    before = path.stat()
    with pytest.raises(ConfigurationError, match=r"out\.jsonl is no results file.*line 1 "):
        check_path(path)
    with pytest.raises(ConfigurationError, match=r"out\.jsonl is no results file.*line 1 "):
        ResultFile(str(path))
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_foreign_line_in_the_middle_is_named(tmp_path: Path) -> None:
    """A line of something else among ours refuses the file, with its number, untouched."""
    path = filled(tmp_path / "out.jsonl", 5000)
    content = path.read_bytes() + b"# a remark\n" + encode(9, None, DIGEST, reply())[:40]
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"line 5001 is no result of ours.*take that line"):
        ResultFile(check_path(path))
    assert path.read_bytes() == content


def test_a_first_line_longer_than_a_look_is_left_to_the_scan(tmp_path: Path) -> None:
    """The first look ends in a huge first line, and the scan decides."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(encode(0, None, DIGEST, reply("x" * 3_000_000)))
    assert found(path) == [0]
    path.write_bytes(b"x" * 3_000_000)
    with pytest.raises(ConfigurationError, match="line 1 "):
        ResultFile(check_path(path))


def test_an_input_that_changed_is_refused(tmp_path: Path) -> None:
    """Another digest at an index that has a reply is an error that names file and index."""
    path = filled(tmp_path / "out.jsonl")
    file = ResultFile(check_path(path))
    with pytest.raises(ConfigurationError, match=r"out\.jsonl.*index 1 .*changed.*another output"):
        file.found(1, DIGEST + 5)
    file.close()


def test_an_item_that_failed_may_change(tmp_path: Path) -> None:
    """An item with an error may be asked otherwise the next time, which is how one is mended."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(encode(0, None, DIGEST, RateLimitError("no")))
    file = ResultFile(check_path(path))
    assert not file.found(0, DIGEST + 1)
    file.close()


def test_a_second_batch_on_the_file_is_refused(tmp_path: Path) -> None:
    """While one has the file, another is refused, in this process as in others; after it, not."""
    path = filled(tmp_path / "out.jsonl")
    file = ResultFile(check_path(path))
    with pytest.raises(ConfigurationError, match="in use by another batch"):
        check_path(path)
    with pytest.raises(ConfigurationError, match="in use by another batch"):
        ResultFile(str(path))
    code = (
        "import sys; from termai_http._batch_file import check_path\n"
        "from termai_http.errors import ConfigurationError\n"
        "try: check_path(sys.argv[1])\n"
        "except ConfigurationError as error: print(error.message)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    assert "in use by another batch" in subprocess.check_output(command, text=True)
    file.close()
    assert subprocess.check_output(command, text=True) == ""
    assert found(path) == [0, 1, 2]


def test_a_file_that_is_dropped_is_closed(tmp_path: Path) -> None:
    """A file that nobody holds any more is free for the next."""
    path = filled(tmp_path / "out.jsonl")
    file = ResultFile(check_path(path))
    del file
    assert found(path) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_does_not_keep_the_file(tmp_path: Path) -> None:
    """A child neither writes nor keeps the lock when the parent is gone; the parent goes on."""
    path = filled(tmp_path / "out.jsonl")
    file = ResultFile(check_path(path))
    asked, told = multiprocessing.Pipe()

    def child() -> None:
        file.append(8, None, DIGEST, reply("of the child"))
        told.send("began")
        told.recv()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert asked.recv() == "began"
    file.append(3, None, DIGEST + 3, reply())
    with pytest.raises(ConfigurationError, match="in use"):
        check_path(path)
    file.close()
    assert found(path) == [0, 1, 2, 3]
    asked.send("end")
    process.join()
    assert process.exitcode == 0


def test_appends_from_many_threads_are_whole_lines(tmp_path: Path) -> None:
    """Threads that append at once mix no lines."""
    path = tmp_path / "out.jsonl"
    file = ResultFile(check_path(path))
    gate = threading.Barrier(8)

    def work(first: int) -> None:
        gate.wait()
        for at in range(first, first + 50):
            file.append(at, None, DIGEST + at, reply(str(at) * 3000))

    threads = [threading.Thread(target=work, args=(50 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert found(path, 500) == list(range(400))


def test_a_cancelled_call_and_one_after_the_end_leave_no_line(tmp_path: Path) -> None:
    """Of a call that was cancelled nothing is known; after close nothing is written."""
    path = tmp_path / "out.jsonl"
    file = ResultFile(check_path(path))
    file.append(0, None, DIGEST, CallCancelled("stopped"))
    file.close()
    file.close()
    file.append(1, None, DIGEST, reply())
    assert path.read_bytes() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_device_is_a_clear_error() -> None:
    """Where nothing can be written, the error names the file, the reason and the way out."""
    file = ResultFile(check_path("/dev/full"))
    assert not file.found(0, DIGEST)
    with pytest.raises(OSError, match=r"cannot be written: No space left.*run again") as caught:
        file.append(0, None, DIGEST, reply())
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")
    file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    """A line of which only a part had room is taken off; with room again the file goes on."""
    path = tmp_path / "out.jsonl"
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_batch_file import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "file = ResultFile(check_path(sys.argv[1]))\n"
        "try:\n"
        "    for at in range(9): file.append(at, None, DIGEST + at, reply('x' * 300))\n"
        "except OSError as error: print(at, error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    at, number = map(int, done.stdout.split())
    assert (number, at > 0, path.stat().st_size < 2000) == (errno.EFBIG, True, True)
    assert path.read_bytes().endswith(b"}\n")
    assert found(path) == list(range(at))


def test_a_write_that_is_torn_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt between two parts of a write leaves no part of the line."""
    path = filled(tmp_path / "out.jsonl")
    before = path.read_bytes()
    file = ResultFile(check_path(path))
    write, parts = os.write, []

    def torn(descriptor: int, data: Any) -> int:
        if parts:
            raise KeyboardInterrupt
        parts.append(write(descriptor, bytes(data)[:20]))
        return 20

    with monkeypatch.context() as patch:
        patch.setattr(_batch_file.os, "write", torn)
        with pytest.raises(KeyboardInterrupt):
            file.append(3, None, DIGEST + 3, reply())
    assert (parts, path.read_bytes()) == ([20], before)
    file.append(3, None, DIGEST + 3, reply())
    file.close()
    assert found(path) == [0, 1, 2, 3]


@pytest.mark.parametrize("given", [5, object(), True, ["a"], "", "a\0b", b""])
def test_what_is_no_path_is_refused(given: Any) -> None:
    """Something else than a path is refused with its type."""
    with pytest.raises(ConfigurationError, match="output must be the path of a file"):
        check_path(given)


def test_places_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    """A missing folder, a directory and what is no file are refused, each with its reason."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "a file").write_bytes(b"")
    for path, why in (
        (tmp_path / "no" / "out.jsonl", "its folder does not exist; make it first"),
        (tmp_path, "it is a directory; name a file in it, as .*results.jsonl"),
        (pipe, "it is no file"),
        (tmp_path / "a file" / "out.jsonl", "its folder does not exist"),
        ("/proc/self/out.jsonl", "."),
    ):
        with pytest.raises(ConfigurationError, match=f"cannot be written: {why}"):
            check_path(path)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="there are no such rights")
def test_a_file_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    """What this user may not write is refused; the superuser becomes another one for it."""
    folder = tmp_path / "closed"
    folder.mkdir()
    filled(folder / "out.jsonl").chmod(0o444)
    folder.chmod(0o555)
    code = (
        "import fcntl, os; from termai_http import _batch_file as f\n"
        "from termai_http.errors import ConfigurationError\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "for name in ('out.jsonl', 'new.jsonl'):\n"
        "    try: f._open(name)\n"
        "    except ConfigurationError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert [line.split(": ")[-1] for line in done.stdout.splitlines()] == ["Permission denied."] * 2


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of every kind are taken, and hold where the program changes its directory."""
    monkeypatch.chdir(tmp_path)
    for given in ("out.jsonl", b"out.jsonl", Path("out.jsonl")):
        assert check_path(given) == str(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing can be locked the batch runs, and a warning says so."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert found(filled(tmp_path / "out.jsonl")) == [0, 1, 2]
    assert "cannot be locked" in caplog.text


def test_without_flock_one_byte_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no flock, one byte far behind the begin is locked, for one batch at a time."""
    taken: list[tuple[int, int]] = []

    def locking(descriptor: int, mode: int, count: int) -> None:
        if taken:
            raise PermissionError(errno.EACCES, "Permission denied")
        taken.append((os.lseek(descriptor, 0, os.SEEK_CUR), count))

    path = filled(tmp_path / "out.jsonl")
    windows = SimpleNamespace(LK_NBLCK=2, locking=locking)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    file = ResultFile(str(path))
    assert file.found(2, DIGEST + 2)
    assert taken == [((1 << 31) - 2, 1)]
    with pytest.raises(ConfigurationError, match="in use by another batch"):
        check_path(path)
    file.close()


def test_a_line_that_was_spoilt_since_is_named(tmp_path: Path) -> None:
    """A line that looks like ours and cannot be read is an error that names the index."""
    path = filled(tmp_path / "out.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"r1"', b'"r"1'))
    file = ResultFile(check_path(path))
    assert file.found(1, DIGEST + 1)
    with pytest.raises(ConfigurationError, match=r"out\.jsonl: the line of index 1 cannot be read"):
        file.read(1)
    file.close()


def test_a_structured_reply_is_read_as_its_value(tmp_path: Path) -> None:
    """Where the item asks for an output, the reply from the file has it as its value again."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    request = ChatRequest("gpt-5.5", "how many?", output=schema)
    path = tmp_path / "out.jsonl"
    texts = ('{"n": 3}', '{"n": "x"}')
    path.write_bytes(b"".join(encode(at, None, DIGEST, reply(t)) for at, t in enumerate(texts)))
    file = ResultFile(check_path(path))
    assert file.found(0, DIGEST)
    assert file.read(0).parsed is None
    assert file.read(0, request).parsed == {"n": 3}
    assert file.found(1, DIGEST)
    with pytest.raises(OutputError):
        file.read(1, request)
    file.close()


def digest(request: ChatRequest, **options: Any) -> int:
    """Return the digest of a request."""
    return Digester(CallOptions(**options)).of(request)


def look(at: str) -> str:
    """Look somewhere."""
    return at


class Unknown:
    """What no request can hold."""


def test_equal_requests_have_equal_digests() -> None:
    """The forms of one request are one, and keys, addresses and timeouts make no difference."""
    from termai_http import Image

    base = digest(ChatRequest("m", "Grüße"))
    turn = {"role": "user", "content": "Grüße"}
    for messages in ([turn], [dict(reversed(turn.items()))], [Message("user", "Grüße")], (turn,)):
        assert digest(ChatRequest("m", messages)) == base
    assert digest(ChatRequest("m", "Grüße"), api_key="k", base_url="http://x", timeout=3) == base
    assert digest(ChatRequest("m", "Grüße", extra={})) == base
    for make in (
        lambda: ChatRequest("m", ["see", Image(PNG)]),
        lambda: ChatRequest("m", "a", tools=[look], extra={"b": 1, "a": {"d": 1, "c": 2}}),
        lambda: ChatRequest("m", "a", output={"type": "object", "properties": {}}),
        lambda: ChatRequest("m", "half \ud800"),
        lambda: ChatRequest("m", "a", extra={"x": Unknown()}),
    ):
        assert digest(make()) == digest(make())


def test_different_requests_have_different_digests() -> None:
    """Whatever changes what is asked for changes the digest, also next to equal ones."""
    from termai_http import Document, Image

    requests = [
        ChatRequest("m", "a"),
        ChatRequest("m", "b"),
        ChatRequest("n", "a"),
        ChatRequest("m", "a", system="s"),
        ChatRequest("m", "a", max_tokens=5),
        ChatRequest("m", "a", extra={"temperature": 0}),
        ChatRequest("m", "a", extra={"temperature": 1}),
        ChatRequest("m", "a", reasoning="low"),
        ChatRequest("m", "a", stop="x"),
        ChatRequest("m", "a", tools=[look]),
        ChatRequest("m", "a", output={"type": "object", "properties": {}}),
        ChatRequest("m", [{"role": "assistant", "content": "a"}]),
        ChatRequest("m", [Message("user", "a", cache=True)]),
        ChatRequest("m", [Message("user", "a", cache="1h")]),
        ChatRequest("m", ["a", Image(PNG)]),
        ChatRequest("m", ["a", Image(PNG + b"\0")]),
        ChatRequest("m", ["a", Image(PNG, detail="low")]),
        ChatRequest("m", ["a", Image("https://example.com/a.png")]),
        ChatRequest("m", ["a", Document(b"%PDF-1.7")]),
        ChatRequest("m", ["a", Document(b"%PDF-1.7", name="b.pdf")]),
        ChatRequest("m", "half \ud800"),
    ]
    one = Digester()
    digests = [one.of(request) for request in requests]
    assert len(set(digests)) == len(requests)
    assert digests == [Digester().of(request) for request in requests]
    assert digests == [one.of(request) for request in requests]
    options = [{"provider": "claude"}, {"api": "responses"}, {"extra_body": {"a": 1}}]
    more = [digest(requests[0], **given) for given in options]
    assert len({*digests, *more}) == len(requests) + len(options)


def test_a_digest_is_the_same_in_every_process() -> None:
    """Digests are written down, so the seed of hashes must not be in them."""
    code = (
        "from termai_http._batch_digest import Digester\n"
        "from termai_http.models import ChatRequest\n"
        "print(Digester().of(ChatRequest('m', 'a', extra={'b': {'x', 'y'}, 'a': 2})))"
    )
    outputs = {
        subprocess.check_output(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert digest(ChatRequest("gpt-5.5", "hi")) == 0x2955614DACB2CE98


def test_a_request_that_cannot_be_sent_has_a_digest() -> None:
    """What is no request fails with its own error when it is sent, and not before."""
    knot: list[Any] = []
    knot.append(knot)
    for request in (
        ChatRequest("m", "a", extra={"x": knot}),
        ChatRequest("m", "a", extra={"x": {1: 2, "a": 3}}),
        ChatRequest("m", [{"role": "user", "content": Unknown()}]),
        ChatRequest("m", "a", tools=[Unknown()]),
        ChatRequest("m", "a", output=Unknown),
    ):
        assert digest(request) >= 0


def test_nothing_of_a_key_or_prompt_is_written() -> None:
    """Of a request only the digest is in a line."""
    request = ChatRequest("m", "a secret prompt", system="a secret system")
    value: TermaiHttpError | ChatResponse
    for value in (reply("no"), RateLimitError("no", body="excerpt")):
        line = encode(0, None, digest(request, api_key="sk-secret"), value)
        assert b"secret" not in line
        assert b"excerpt" not in line
