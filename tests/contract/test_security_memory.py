"""Keys in memory: what has one does not show it, nothing keeps or pickles one (S5, S13).

The numbers are those of the security checklist.
"""

from __future__ import annotations

import copy
import gc
import io
import logging
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import termai_http
from termai_http import (
    ClaudeAdapter,
    Client,
    ConfigurationError,
    HttpClientConfig,
    OpenAIAdapter,
    RequestHandler,
    errors,
)
from termai_http._options import CallOptions
from termai_http._target import Account, resolve
from tests.contract.security_tools import (
    FAST,
    SECRETS,
    Recorder,
    answer,
    call,
    everything,
    faces,
    must_hide,
    raising,
)
from tests.faults.harness import KEY, PROMPT, closed_port

CLASSES = [getattr(errors, name) for name in errors.__all__]

# Through them everything of the process can be reached, the test and its key included.
_OTHERS = (types.ModuleType, types.FrameType, logging.Logger, logging.Handler)


def reachable(*roots: object) -> Iterator[Any]:
    """Yield all that can be reached from our objects, without leaving for other modules."""
    pending, seen = list(roots), {id(roots)}
    while pending:
        found = pending.pop()
        if id(found) in seen or issubclass(type(found), _OTHERS):
            continue
        seen.add(id(found))
        yield found
        if issubclass(type(found), types.FunctionType):
            # Its globals are the whole module, and so the test's own key.
            pending += [found.__closure__, found.__defaults__, found.__kwdefaults__]
        elif issubclass(type(found), type):
            if found.__module__.startswith("termai_http"):
                pending += [dict(vars(found))]
        else:
            pending += gc.get_referents(found)


def is_ours(item: object) -> bool:
    """Tell whether something is an instance of a class of this package."""
    return str(type(item).__module__).partition(".")[0] == "termai_http"


@pytest.mark.parametrize("kind", ["200", "400", "503", "broken", "refused", "interrupted"])
def test_s5_nothing_that_stays_holds_a_key_or_a_prompt(kind: str) -> None:
    """After a call, of any end, no object that a client or a module of ours reaches has either."""
    server = Recorder()
    server.answer = {
        "400": answer("400 No", KEY.encode()),
        "503": answer("503 Busy", KEY.encode()),
        "broken": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    }.get(kind, server.answer)
    modules = [
        value
        for module in [module for name, module in sys.modules.items() if "termai_http" in name]
        # The others, __loader__ and so on, lead to the import system, and through that to pytest.
        for name, value in vars(module).items()
        if not name.startswith("__")
    ]
    with Client(HttpClientConfig(retry=FAST, trust_env=False, timeout=1)) as client:
        url = f"http://127.0.0.1:{closed_port()}" if kind == "refused" else server.url
        if kind == "interrupted":
            client.session.hooks["response"].append(raising(KeyboardInterrupt))
        for make in faces(client, url).values():
            try:
                made = make()
            except (termai_http.TermaiHttpError, KeyboardInterrupt):
                made = None
            if isinstance(made, termai_http.Stream):
                made.close()
            del made
        client.session.headers["X-Planted"] = "a text that the search must find"
        gc.collect()
        found = reachable(client, *modules)
        texts = [str(item) for item in found if issubclass(type(item), (str, bytes, bytearray))]
        texts += [repr(item) for item in gc.get_objects() if is_ours(item)]
    server.close()
    assert "a text that the search must find" in texts
    for secret in SECRETS:
        assert [text[:300] for text in texts if secret in text] == []


def test_s5_what_holds_a_key_for_a_while_does_not_show_it() -> None:
    """The values that a call is made of have masked reprs; so has a traceback's dump of them."""
    account = Account(provider="openai", api_key=KEY, base_url=f"https://a.example/?{KEY}")
    options = CallOptions(
        api_key=KEY,
        base_url=f"https://me:{KEY}@a.example",
        extra_headers={"X-Key": KEY},
        extra_query={"key": KEY},
        extra_body={"note": PROMPT},
    )
    target = resolve(Account(provider="openai", api_key=KEY), CallOptions(), {}, allow_http=False)
    request = termai_http.ChatRequest(
        model="m", messages=PROMPT, system=PROMPT, extra={"note": PROMPT}
    )
    message = termai_http.Message(role="user", content=PROMPT)
    config = HttpClientConfig(proxies={"https": f"http://me:{KEY}@proxy.example:1"})
    for value in (account, options, target, request, message, config, target.auth):
        must_hide(f"{value!r} {value!s} {[value]!r}", type(value).__name__)
    assert target.auth["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}\u2019", f"{KEY} ", KEY * 400, "\n", ""])
def test_s5_a_wrong_key_is_never_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes from: argument, adapter, environment."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        ways: list[Callable[[], Any]] = [
            lambda: client.chat(PROMPT, model="gpt-5.5", api_key=key),
            lambda: client.stream(PROMPT, model="claude-opus-5-5", api_key=key),
            lambda: OpenAIAdapter(client, api_key=key).chat_completion({"messages": PROMPT}),
            lambda: ClaudeAdapter(client).chat_completion({"messages": PROMPT}, key),
        ]
        for way in ways:
            with pytest.raises(ConfigurationError) as caught:
                way()
            must_hide(everything(caught.value))
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
            monkeypatch.setenv(name, key)
        for model in ("gpt-5.5", "claude-opus-5-5"):
            with pytest.raises(ConfigurationError) as caught:
                client.chat(PROMPT, model=model)
            must_hide(everything(caught.value))
        assert not OpenAIAdapter(client).health_check()


FAILED = termai_http.FailedTarget(
    model="m", provider="openai", host="h", error="RateLimitError", message="It failed."
)
FIELDS: dict[str, Any] = {
    "provider": "openai",
    "model": "m",
    "status_code": 429,
    "request_id": "req_1",
    "code": "c",
    "attempts": 2,
    "elapsed": 1.5,
    "retry_after": 3.25,
    "maybe_billed": True,
    "body": "excerpt \u00e9 \U0001f389",
    "phase": "body",
    "fallbacks": (FAILED,),
}


OWN_FIELDS: dict[type[Exception], dict[str, Any]] = {
    termai_http.StreamInterrupted: {"partial": "half of it"},
    termai_http.OutputError: {
        "text": "a reply",
        "path": "$.items[2]",
        "usage": termai_http.Usage(input_tokens=3),
        "cost": 0.25,
    },
    termai_http.CircuitOpenError: {"retry_in": 2.5},
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_s13_every_error_survives_every_copy(cls: type[termai_http.TermaiHttpError]) -> None:
    """All pickle protocols and both copies keep each field; the cause stays where it was."""
    more = OWN_FIELDS.get(cls, {})
    error = cls("It failed.", **FIELDS, **more)
    error.__cause__ = RuntimeError("of the test")
    error.own_note = "a field of the user's"  # type: ignore[attr-defined]
    fields = {**FIELDS, **more, "message": "It failed.", "own_note": "a field of the user's"}
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in protocols]
    for again in (*copies, copy.copy(error), copy.deepcopy(error)):
        assert type(again) is cls
        assert vars(again) == fields
        assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)
        assert again.__cause__ is None


def test_s13_every_field_of_an_error_is_tried() -> None:
    """The table above knows every field that an error can have."""
    plain = termai_http.TermaiHttpError("It failed.")
    assert set(vars(plain)) == {"message", *FIELDS}
    for cls in CLASSES:
        assert set(vars(cls("x"))) - set(vars(plain)) == set(OWN_FIELDS.get(cls, {}))


def test_s13_what_holds_sockets_or_keys_is_not_pickled() -> None:
    """Client, session, handler and adapter refuse, and so does whatever holds a key in use."""
    with Recorder() as server, Client(HttpClientConfig(trust_env=False)) as client:
        call(client, server.url)
        auth = resolve(Account(provider="claude", api_key=KEY), CallOptions(), {}, allow_http=False)
        for held in (client, client.session, RequestHandler(client), auth, [auth.auth]):
            with pytest.raises(TypeError) as caught:
                pickle.dump(held, io.BytesIO())
            must_hide(str(caught.value))
        again = pickle.loads(pickle.dumps(client.config))
    assert again == HttpClientConfig(trust_env=False)
