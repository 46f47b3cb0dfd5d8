"""``chat_many(output=...)``: killed, filled up, changed, shared, and always whole."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from termai_http import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    InvalidRequestError,
    RateLimitError,
    RetryConfig,
    TermaiHttpError,
    chat_many,
)
from termai_http.testing import RecordedRequest, Server, Silent, Status, Text, ToolCalls

MODEL = "gpt-5.5"
PROMPTS = [f"prompt {number}" for number in range(40)]
ONCE = RetryConfig(max_attempts=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where results go."""
    return tmp_path / "results.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file, each of which must be whole."""
    content = path.read_text()
    assert content == "" or content.endswith("}\n")
    return [json.loads(line) for line in content.split("\n")[:-1]]


def asked(server: Server) -> list[str]:
    """Return the prompts that came to the server, sorted."""
    return sorted(request.prompt for request in server.requests)


def many(prompts: Any, path: Path, **options: Any) -> Any:
    """Begin a batch with a results file."""
    return chat_many(prompts, output=path, **{"model": MODEL, "retry": ONCE, **options})


KILLED = """
import sys
from termai_http import chat_many
prompts = (f"prompt {number}" for number in range(40))
batch = chat_many(prompts, model="gpt-5.5", output=sys.argv[1], max_workers=4)
list(batch) if sys.argv[2] == "list" else batch.run()
"""


@pytest.mark.parametrize("torn", [0, 30])
@pytest.mark.parametrize("way", ["list", "run"])
def test_a_killed_run_goes_on_with_what_is_missing(
    termai_server: Server, path: Path, way: str, torn: int
) -> None:
    """After SIGKILL in the middle, and a last line cut too, only what has no line is asked."""
    enough = threading.Event()
    held = 0
    counting = threading.Lock()

    def hold(request: RecordedRequest) -> Silent | None:
        nonlocal held
        # By number, and not by how many came: what is late must not keep the others from reading.
        if int(request.prompt.removeprefix("prompt ")) < 20:
            return None
        with counting:
            held += 1
            if held == 4:
                # All four workers wait, each after it wrote what it was answered before.
                enough.set()
        return Silent()

    termai_server.fail_when(hold)
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path), way]) as process:
        try:
            assert enough.wait(60)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    if torn:
        path.write_bytes(path.read_bytes()[:-torn])
    whole = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert len(whole) + bool(torn) == 20
    there = {line["index"] for line in whole}
    termai_server.reset()

    replies = list(many(PROMPTS, path))
    assert [reply.text for reply in replies] == [f"You said: {prompt}" for prompt in PROMPTS]
    assert asked(termai_server) == sorted(f"prompt {at}" for at in range(40) if at not in there)
    assert sorted(line["index"] for line in lines(path)) == list(range(40))


@pytest.mark.parametrize("as_completed", [False, True])
def test_a_finished_file_sends_nothing(
    termai_server: Server, path: Path, as_completed: bool
) -> None:
    """Iterated in either order, or run, a finished file gives the same and asks for nothing."""
    first = list(many(PROMPTS, path))
    size = path.stat().st_size
    termai_server.reset()
    again = many((prompt for prompt in PROMPTS), path, as_completed=as_completed)
    replies = [reply for _, reply in sorted(again)] if as_completed else list(again)
    for one, other in zip(first, replies, strict=True):
        assert (one.text, one.usage, one.request_id) == (other.text, other.usage, other.request_id)
        assert (one.model, one.provider, one.messages) == (
            other.model,
            other.provider,
            other.messages,
        )
    summary = many(PROMPTS, path).run()
    assert (summary.skipped, summary.succeeded, summary.failed) == (40, 0, 0)
    assert termai_server.requests == []
    assert path.stat().st_size == size


@pytest.mark.parametrize("as_completed", [False, True])
def test_what_is_there_and_what_is_asked_come_together(
    termai_server: Server, path: Path, as_completed: bool
) -> None:
    """Replies from the file and from the server come in one sequence, each at its place."""
    list(many(PROMPTS, path))
    kept = [line for line in path.read_text().splitlines() if json.loads(line)["index"] % 3]
    path.write_text("".join(f"{line}\n" for line in kept))
    termai_server.reset()
    batch = many(PROMPTS, path, as_completed=as_completed, max_workers=3)
    replies = dict(batch) if as_completed else dict(enumerate(batch))
    assert {at: reply.text for at, reply in replies.items()} == {
        at: f"You said: {prompt}" for at, prompt in enumerate(PROMPTS)
    }
    assert asked(termai_server) == sorted(PROMPTS[::3])


def test_errors_are_asked_again(termai_server: Server, path: Path) -> None:
    """What failed is in the file with its class, and is asked in the next run, which counts."""
    limited = {PROMPTS[3], PROMPTS[7]}
    termai_server.fail_when(lambda asked: Status(429) if asked.prompt in limited else None)
    results = list(many(PROMPTS[:10], path, return_exceptions=True))
    failed = [at for at, result in enumerate(results) if isinstance(result, TermaiHttpError)]
    assert failed == [3, 7]
    errors = {line["index"]: line["error"] for line in lines(path) if "error" in line}
    assert {at: error["type"] for at, error in errors.items()} == dict.fromkeys(
        (3, 7), "RateLimitError"
    )
    assert errors[3]["status_code"] == 429
    assert errors[3]["request_id"].startswith("req_")
    termai_server.reset()
    results = list(many(PROMPTS[:10], path))
    assert asked(termai_server) == sorted(limited)
    assert all(isinstance(result, ChatResponse) for result in results)
    termai_server.reset()
    assert many(PROMPTS[:10], path).run().skipped == 10
    assert termai_server.requests == []


def test_a_raised_error_leaves_a_file_to_go_on_with(termai_server: Server, path: Path) -> None:
    """Where an item ends the batch, its line and those before are there, and the file is free."""
    termai_server.fail_when(lambda asked: Status(429) if asked.prompt == PROMPTS[5] else None)
    with pytest.raises(RateLimitError) as caught:
        list(many(PROMPTS, path, max_workers=1))
    assert set(range(5)) <= set(caught.value.done)
    assert [line["index"] for line in lines(path)][:6] == list(range(6))
    termai_server.reset()
    assert len(list(many(PROMPTS, path))) == 40
    assert not set(PROMPTS[:5]) & set(asked(termai_server))


def test_an_input_that_changed_is_not_sent(termai_server: Server, path: Path) -> None:
    """Another prompt, order, model or parameter at a place that has a reply is refused there."""
    list(many(PROMPTS[:5], path))
    termai_server.reset()
    changed = [*PROMPTS[:2], "another", *PROMPTS[3:5]]
    for prompts, options in (
        (changed, {}),
        (PROMPTS[1:5], {}),
        (PROMPTS[:5], {"model": "gpt-6"}),
        (PROMPTS[:5], {"system": "Be brief."}),
        (PROMPTS[:5], {"temperature": 0.5}),
        (PROMPTS[:5], {"api": "responses"}),
    ):
        before = path.read_bytes()
        with pytest.raises(ConfigurationError, match=r"results\.jsonl.*index \d .*changed"):
            many(prompts, path, **options).run()
        assert path.read_bytes() == before
    assert termai_server.requests == []
    # What only says how to get there is no change, nor are more items, nor fewer.
    assert many(PROMPTS[:5], path, timeout=30, extra_headers={"x-a": "b"}).run().skipped == 5
    assert len(list(many(PROMPTS[:3], path))) == 3
    assert termai_server.requests == []
    assert many(PROMPTS[:8], path).run().succeeded == 3


def test_nothing_is_sent_where_the_file_cannot_be_used(
    termai_server: Server, path: Path, tmp_path: Path
) -> None:
    """What is wrong with the file is told at the call, before an item is read."""
    read: list[str] = []

    def items() -> Iterator[str]:
        read.append("one")
        yield "hi"

    foreign = tmp_path / "notes.txt"
    foreign.write_bytes(b"my notes\n\xff")
    for given, why in (
        (tmp_path / "no" / "a.jsonl", "its folder does not exist"),
        (tmp_path, "it is a directory"),
        (foreign, "is no results file of this job: its line 1"),
        ("", "output must be the path of a file"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            chat_many(items(), model=MODEL, output=given)
    assert (read, termai_server.requests) == ([], [])
    assert foreign.read_bytes() == b"my notes\n\xff"


def test_a_foreign_line_further_on_is_found_before_anything_is_sent(
    termai_server: Server, path: Path
) -> None:
    """Whatever is wrong in the middle of the file, nothing is sent and nothing is changed."""
    list(many(PROMPTS[:3], path))
    termai_server.reset()
    content = path.read_bytes() + b"something else\n"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="its line 4 is no result of ours"):
        list(many(PROMPTS[:5], path))
    assert (termai_server.requests, path.read_bytes()) == ([], content)


def test_a_second_batch_at_once_is_refused(termai_server: Server, path: Path) -> None:
    """While a batch writes to a file, another one is refused, in this process and in others."""
    batch = many(PROMPTS, path)
    next(batch)
    termai_server.reset()
    with pytest.raises(ConfigurationError, match="in use by another batch"):
        many(PROMPTS, path)
    code = KILLED.replace("list(batch) if", "batch.run() if")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), "run"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "in use by another batch" in done.stderr
    batch.close()
    assert len(list(many(PROMPTS, path))) == 40


def test_a_batch_that_was_begun_later_is_refused_too(termai_server: Server, path: Path) -> None:
    """Of two batches made before either began, the one that begins second is refused."""
    first, second = many(PROMPTS, path), many(PROMPTS, path)
    next(first)
    with pytest.raises(ConfigurationError, match="in use by another batch"):
        next(second)
    first.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_full_disk_ends_the_batch_with_what_is_done(
    termai_server: Server, return_exceptions: bool
) -> None:
    """What cannot be written is an OSError that names the file, with the replies in ``done``."""
    batch = chat_many(
        PROMPTS, model=MODEL, output="/dev/full", return_exceptions=return_exceptions, max_workers=2
    )
    with pytest.raises(OSError, match="cannot be written: No space left") as caught:
        list(batch)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")
    done = caught.value.done
    replies = {at: one.text for at, one in done.items() if isinstance(one, ChatResponse)}
    assert replies
    assert replies == {at: f"You said: {PROMPTS[at]}" for at in replies}
    # Calls that nobody can keep are not made.
    assert len(termai_server.requests) < len(PROMPTS)


def test_an_interrupt_leaves_whole_lines(termai_server: Server, path: Path) -> None:
    """Ctrl-C between two results leaves what is done in the file, for the next run."""

    def stop(so_far: Any) -> None:
        if so_far.done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        list(many(PROMPTS, path, progress=stop))
    written = {line["index"] for line in lines(path)}
    assert set(caught.value.done) <= written
    termai_server.reset()
    assert len(list(many(PROMPTS, path))) == 40
    # A call that the interrupt ended may still come to the server now.
    missing = {prompt for at, prompt in enumerate(PROMPTS) if at not in written}
    assert set(asked(termai_server)) == missing


def test_replies_of_every_kind_come_back(termai_server: Server, path: Path) -> None:
    """Tools, values, ids, other signs and both vendors come back from the file as they came."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    texts = {
        "signs": Text("Zażółć 漢字 \U0001f600 \u2028 \r\n \x00"),
        "empty": Text(""),
        "huge": Text("x" * 2_000_000),
        "json": Text('{"n": 3}'),
        "tools": ToolCalls(("look", {"at": "Ä", "n": 1.5})),
    }
    termai_server.fail_when(lambda asked: texts.get(asked.prompt))
    items: list[Any] = [
        {"id": "a", "prompt": "signs"},
        {"id": 7, "messages": [{"role": "user", "content": "empty"}]},
        ChatRequest("claude-opus-5-5", "huge"),
        ChatRequest(MODEL, "json", output=schema),
        {"id": 'qu"ote', "prompt": "tools", "extra": {"tools": [{"type": "function"}]}},
    ]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    items[4]["extra"]["tools"] = [tool]
    first = list(many(items, path))
    assert {line["index"]: line.get("id") for line in lines(path)} == {
        0: "a",
        1: 7,
        2: None,
        3: None,
        4: 'qu"ote',
    }
    termai_server.reset()
    again = list(many(items, path))
    assert termai_server.requests == []
    for one, other in zip(first, again, strict=True):
        for name in ("text", "tool_calls", "parsed", "messages", "provider", "finish_reason"):
            assert getattr(one, name) == getattr(other, name), name
    assert again[3].parsed == {"n": 3}
    assert again[4].tool_calls[0].arguments == {"at": "Ä", "n": 1.5}


def test_an_item_that_is_none_has_its_line(termai_server: Server, path: Path) -> None:
    """What cannot be asked is in the file as an error, and can be mended for the next run."""
    items: list[Any] = ["a", {"id": "x"}, "c"]
    results = list(many(items, path, return_exceptions=True))
    assert isinstance(results[1], InvalidRequestError)
    line = next(line for line in lines(path) if line["index"] == 1)
    assert line["error"]["type"] == "InvalidRequestError"
    items[1] = {"id": "x", "prompt": "b"}
    termai_server.reset()
    assert [reply.text[-1] for reply in many(items, path)] == ["a", "b", "c"]
    assert asked(termai_server) == ["b"]


def test_a_file_holds_neither_keys_nor_prompts(termai_server: Server, path: Path) -> None:
    """Of what was sent, nothing is in the file, in replies or in errors."""
    termai_server.fail_when(
        lambda asked: Status(400) if "wrong" in asked.prompt else Text("An answer.")
    )
    items = ["a confidential prompt", "a confidential and wrong prompt"]
    many(items, path, system="a confidential system", api_key="sk-confidential-1").run()
    assert len(lines(path)) == 2
    assert "confidential" not in path.read_text()


def test_an_executor_writes_the_same_file(termai_server: Server, path: Path) -> None:
    """Carried out by an executor, results are in the file as well, and are found again."""
    with ThreadPoolExecutor(3) as executor:
        many(PROMPTS[:20], path, executor=executor, retry=None).run()
        assert sorted(line["index"] for line in lines(path)) == list(range(20))
        termai_server.reset()
        summary = many(PROMPTS, path, executor=executor, retry=None).run()
    assert (summary.skipped, summary.succeeded) == (20, 20)
    assert asked(termai_server) == sorted(PROMPTS[20:])


def test_results_are_written_when_done_not_when_delivered(
    termai_server: Server, path: Path
) -> None:
    """A result that waits for one before it is in the file already."""
    others = threading.Event()
    answered: list[str] = []

    def hold(request: RecordedRequest) -> None:
        if request.prompt == PROMPTS[0]:
            assert others.wait(60)
        answered.append(request.prompt)
        if len(answered) == 6:
            # Each of two workers that came back for more had put its result away.
            written.extend(line["index"] for line in lines(path))
            others.set()

    written: list[int] = []
    termai_server.fail_when(hold)
    list(many(PROMPTS[:20], path, max_workers=4))
    assert 0 not in written
    assert len(written) >= 2


MEASURED = """
import resource, sys
import termai_http
termai_http.chat_many([], model="gpt-5.5", output=sys.argv[1]).run()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prompts = (f"prompt {number}" for number in range(100_000))
summary = termai_http.chat_many(prompts, model="gpt-5.5", output=sys.argv[2]).run()
print(summary.skipped, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is the system's own")
def test_a_big_finished_file_takes_little_memory(
    termai_server: Server, path: Path, tmp_path: Path
) -> None:
    """A file of 100,000 replies, 60 MB, is gone through in a few MB, and nothing is asked."""
    from termai_http._batch_digest import Digester
    from termai_http._batch_lines import encode

    [reply] = many(["an example"], tmp_path / "one.jsonl")
    termai_server.reset()
    line = encode(0, None, 0, reply).replace(b'"You said', b'"' + b"x" * 300 + b"You said")
    begin = encode(0, None, 0, reply)[: len('{"index": 0, "digest": "')]
    digester = Digester()
    with open(path, "wb") as file:
        for at in range(100_000):
            digest = digester.of(ChatRequest(MODEL, f"prompt {at}"))
            head = b'{"index": %d, "digest": "%016x' % (at, digest)
            file.write(head + line[len(begin) + 16 :])
    assert path.stat().st_size > 50_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "none.jsonl"), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    skipped, kilobytes = map(int, done.stdout.split())
    assert skipped == 100_000
    assert kilobytes < 24 * 1024
    assert termai_server.requests == []


def test_the_file_of_another_job_is_left_to_it(termai_server: Server, path: Path) -> None:
    """Errors before the first reply tell of it: nothing is sent, and its own job goes on."""
    failing = set(PROMPTS[:3])
    termai_server.fail_when(lambda asked: Status(429) if asked.prompt in failing else None)
    list(many(PROMPTS, path, return_exceptions=True))
    termai_server.reset()
    before = path.read_bytes()
    for prompts, options in (
        ([f"other {prompt}" for prompt in PROMPTS], {}),
        (PROMPTS, {"system": "Be brief."}),
    ):
        with pytest.raises(ConfigurationError, match=r"index \d+ belongs to another request"):
            many(prompts, path, max_workers=2, **options).run()
    assert (termai_server.requests, path.read_bytes()) == ([], before)
    assert many(PROMPTS, path).run().skipped == 37
    assert asked(termai_server) == sorted(failing)


def test_what_is_missing_before_the_first_reply_is_not_sent_for_another_job(
    termai_server: Server, path: Path
) -> None:
    """An item without a line waits until a reply of the file is known to be of these items."""
    list(many(PROMPTS[:9], path))
    kept = [line for line in path.read_bytes().splitlines(True) if b'"index": 0,' not in line]
    path.write_bytes(b"".join(kept))
    termai_server.reset()
    with pytest.raises(ConfigurationError, match="belongs to another request"):
        many([f"other {prompt}" for prompt in PROMPTS], path).run()
    assert termai_server.requests == []
    assert many(PROMPTS[:9], path).run().skipped == 8
    assert asked(termai_server) == PROMPTS[:1]


def test_a_prompt_that_failed_may_be_mended(termai_server: Server, path: Path) -> None:
    """An error belongs to nobody, whether replies follow it or none is there at all."""
    termai_server.fail_when(lambda asked: Status(429) if asked.prompt == PROMPTS[0] else None)
    list(many(PROMPTS[:9], path, return_exceptions=True))
    mended = ["mended", *PROMPTS[1:9]]
    assert many(mended, path).run().skipped == 8
    alone = path.with_name("alone.jsonl")
    list(many(PROMPTS[:1], alone, return_exceptions=True))
    assert many(mended[:1], alone).run().succeeded == 1


def test_results_that_no_item_is_of_are_told(
    termai_server: Server, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A shorter input is no mistake, but may be one."""
    list(many(PROMPTS[:9], path))
    assert many(PROMPTS[:9], path).run().skipped == 9
    assert caplog.text == ""
    assert many(PROMPTS[:4], path).run().skipped == 4
    assert "has 5 results more than there are items" in caplog.text


def test_an_executors_results_are_written_when_done(termai_server: Server, path: Path) -> None:
    """What nobody has come for yet is in the file already, and is not paid for twice."""
    with ThreadPoolExecutor(3) as executor:
        batch = many(PROMPTS[:8], path, executor=executor, retry=None, max_workers=4)
        next(batch)
    there = len(lines(path))
    assert there == len(termai_server.requests) >= 4
    batch.close()
    assert many(PROMPTS[:8], path).run().skipped == there
