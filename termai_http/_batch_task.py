"""One item of a batch as it travels to another thread, process or machine, and is done there.

Plain data travels: the configuration, the request, the options, and of a key only the name of its
variable. What carries the calls, the ``Core``, each process makes for itself.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from ._batch_targets import aimed, check_targets
from ._call import Clock
from ._chat import send_chat
from ._core import Core
from ._fork import take_part
from ._in_flight import CancelToken
from ._options import CallOptions
from ._request import with_specs
from ._specs import ToolSpec
from ._target import BASE_URL_VARIABLES, Account, check_url, provider_of
from ._values import Value
from .config import HttpClientConfig
from .errors import (
    CallCancelled,
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequestError,
    MissingKeyError,
    TermaiHttpError,
)
from .models import ChatRequest, ChatResponse

__all__ = [
    "Here",
    "Task",
    "Tasks",
    "carry_out",
    "check_variable",
    "key_in",
    "register",
    "unregister",
]

_MOST_CORES = 4
_MOST_ENDED = 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# A key that was given in the place of a variable's name has no underscore, and is longer.
_LONGEST_WORD = 30
# A word of the name of a header or of a query's parameter whose value is a secret.
_SECRET = re.compile(
    r"(^|[-_.])(api)?(auth|authorization|cookie|credentials?|key|password|secret|sig|signature|token)"
    r"($|[-_.])",
    re.IGNORECASE,
)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Task(Value):
    """One item as it travels.

    Attributes:
        batch: Which batch it is of; no two batches have the same.
        number: Which item of it.
        config: What the call's client is configured with.
        request: What is asked.
        options: The options of the call, as ``CallOptions`` takes them, without key and token.
        key_variable: The variable that holds the key where the call is made; None means the
            vendor's own.
        end: Seconds since the epoch, at which the time for all is over; None for no limit. An
            executor may keep a task for long before it begins it.
    """

    batch: str
    number: int
    config: HttpClientConfig = attrs.field(repr=False)
    request: ChatRequest = attrs.field(repr=False)
    options: Mapping[str, Any] = attrs.field(repr=False)
    key_variable: str | None = None
    end: float | None = None

    def __dask_tokenize__(self) -> tuple[str, str, int]:
        # Equal prompts are different items: without it Dask, left to its default, asks one.
        return ("termai_http", self.batch, self.number)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Tasks(Value):
    """Makes the tasks of one batch.

    Args:
        batch: Which batch it is.
        config: The configuration of the client that it was begun on.
        options: The options of every call, as ``CallOptions`` takes them.
        key_variable: ``api_key_env=``.
        base_urls: By vendor, the base URL that the caller's environment names.
        key_vendor: Whose key that variable has; None for whoever is asked.

    Raises:
        ConfigurationError: Something of it is secret, or belongs to this process.
        InvalidRequestError: ``key_variable`` is no name of a variable.
    """

    batch: str
    config: HttpClientConfig = attrs.field(repr=False)
    options: Mapping[str, Any] = attrs.field(repr=False)
    key_variable: str | None = None
    base_urls: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    key_vendor: str | None = None

    def __attrs_post_init__(self) -> None:
        check_variable(self.key_variable)
        options = _check_options(self.options)
        check_targets(options.fallback, _check_names, allow_http=self.config.allow_http)
        _check_proxies(self.config)
        for url in (self.options.get("base_url"), *self.base_urls.values()):
            if url is not None:
                check_url(url, allow_http=self.config.allow_http, name="base_url")

    @classmethod
    def of(
        cls,
        batch: str,
        config: HttpClientConfig,
        options: Mapping[str, Any],
        key_variable: str | None,
        environ: Mapping[str, str],
        key_vendor: str | None = None,
    ) -> Tasks:
        """Return what makes the tasks of a batch; base URLs are those of its own environment."""
        named = {vendor: environ.get(name) for vendor, name in BASE_URL_VARIABLES.items()}
        base_urls = {vendor: url for vendor, url in named.items() if url}
        told = {**options, "fallback": aimed(options.get("fallback"), base_urls)}
        return cls(
            batch=batch,
            config=config,
            options={name: value for name, value in told.items() if value is not None},
            key_variable=key_variable,
            base_urls=base_urls,
            key_vendor=key_vendor,
        )

    def task(self, number: int, request: ChatRequest, left: float | None) -> Task:
        """Return one item as it travels.

        Args:
            number: Which item it is.
            request: What is asked; its tools are told, and travel without their functions.
            left: Seconds that the whole batch has left; None for no limit.

        Raises:
            InvalidRequestError: A tool can be none.
        """
        options = dict(self.options)
        vendor = options.get("provider") or provider_of(request.model)
        if "base_url" not in options and vendor in self.base_urls:
            options["base_url"] = self.base_urls[vendor]
        return Task(
            batch=self.batch,
            number=number,
            config=self.config,
            request=_without_functions(request),
            options=options,
            key_variable=self.key_variable if self.key_vendor in (None, vendor) else None,
            end=None if left is None else time.time() + left,
        )


@attrs.frozen(eq=False)
class Here:
    """What the calls of a batch use that are made in the process which began it.

    Attributes:
        core: The client's.
        cancel: Ends them.
        context: Of the caller; each call runs in a copy of it.
    """

    core: Core
    cancel: CancelToken
    context: contextvars.Context


_here: dict[str, Here] = {}
# Batches that ended in this process: what an executor begins of them later is not called.
_ended: OrderedDict[str, None] = OrderedDict()


def register(batch: str, here: Here) -> None:
    """Let the calls of a batch that are made in this process use its own client."""
    _here[batch] = here


def unregister(batch: str) -> None:
    """Make no more calls of a batch in this process; nothing happens where that was said."""
    _ended[batch] = None
    while len(_ended) > _MOST_ENDED:
        _ended.popitem(last=False)
    _here.pop(batch, None)


def carry_out(task: Task) -> ChatResponse | TermaiHttpError:
    """Make the call of a task, wherever this is; returns its reply, or its error in the place.

    Safe from any thread. A process keeps one client for a configuration, and so its connections,
    from task to task.
    """
    here = _here.get(task.batch)
    if here is not None:
        return here.context.copy().run(_send, here.core, task, here.cancel)
    if task.batch in _ended:
        return CallCancelled("The batch was ended before this item was sent.", phase="wait")
    try:
        with _cores.lent(task.config) as core:
            reply = _send(core, task, None)
    except KeyboardInterrupt:
        # A terminal's Ctrl-C reaches every process; those of a pool would go on with the next.
        unregister(task.batch)
        raise
    if isinstance(reply, MissingKeyError):
        reply.message += f" That is process {os.getpid()}, which an executor runs."
    return reply


def _send(core: Core, task: Task, cancel: CancelToken | None) -> ChatResponse | TermaiHttpError:
    try:
        given = dict(task.options)
        if task.end is not None:
            left = task.end - time.time()
            if left <= 0:
                return DeadlineExceeded(
                    "The time for all was over before this item was begun.", phase="wait"
                )
            given["timeout"] = min(given.get("timeout", core.config.timeout), left)
        if task.key_variable is not None:
            given["api_key"] = key_in(task.key_variable, os.environ)
        options = CallOptions(**given, cancel=cancel)
    except TermaiHttpError as error:
        return error.with_traceback(None)
    account = Account(provider=options.provider or provider_of(task.request.model))
    return send_chat(core, account, task.request, options)


def check_variable(name: str | None) -> None:
    """Refuse an ``api_key_env=`` that is no name of a variable; it is not shown, it may be a key.

    Raises:
        InvalidRequestError: It is none.
    """
    if name is None:
        return
    named = isinstance(name, str) and _VARIABLE.fullmatch(name)
    if not named or ("_" not in name and len(name) > _LONGEST_WORD):
        raise InvalidRequestError(
            "api_key_env must be the name of the variable that holds the key, for example "
            '"OPENAI_API_KEY", and not the key itself.'
        )


def key_in(variable: str, environ: Mapping[str, str]) -> str:
    """Return the key that a variable holds.

    Raises:
        MissingKeyError: It is not set, or empty.
    """
    key = environ.get(variable, "")
    if not key.strip():
        raise MissingKeyError(
            f"The variable {variable}, which api_key_env= names, is not set in the process that "
            "makes the call."
        )
    return key


def _check_options(options: Mapping[str, Any]) -> CallOptions:
    """Refuse what cannot travel, and what must not."""
    for name, why in (
        ("api_key", "A key does not travel: name its variable by api_key_env=, and set it there."),
        ("cancel", "Close the batch, or interrupt it, to end what it has left."),
        ("client", "A client does not travel: give its configuration to initialize()."),
    ):
        if options.get(name) is not None:
            raise ConfigurationError(f"{name}= is no option with executor=. {why}")
    for place in ("extra_headers", "extra_query"):
        _check_names(place, options.get(place))
    return CallOptions(**options)


def _check_names(place: str, named: Any) -> None:
    for name in named or ():
        if isinstance(name, str) and _SECRET.search(name):
            raise ConfigurationError(
                f"{place} may not set {name} with executor=: a key does not travel. Name its "
                "variable by api_key_env=, and set it where the calls are made."
            )


def _check_proxies(config: HttpClientConfig) -> None:
    for proxy in (config.proxies or {}).values():
        try:
            secret = "@" in urlsplit(proxy if "://" in proxy else f"http://{proxy}").netloc
        except ValueError:
            secret = True
        if secret:
            raise ConfigurationError(
                "HttpClientConfig(proxies=...) holds a login, which does not travel with "
                "executor=. Set HTTPS_PROXY where the calls are made."
            )


def _without_functions(request: ChatRequest) -> ChatRequest:
    """Return a request whose tools are only described: to be called is not for the one who asks."""
    if request.tools is None:
        return request
    told = with_specs(attrs.evolve(request, output=None)).tools or ()
    tools = [attrs.evolve(one, call=None) if isinstance(one, ToolSpec) else one for one in told]
    return attrs.evolve(request, tools=tools)


class _Lent:
    """A client of this process, and how many calls use it now."""

    def __init__(self, config: HttpClientConfig) -> None:
        self.core = Core(config, Clock())
        self.users = 0


class _Cores:
    """The clients that this process made for tasks, one for a configuration, a few at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[HttpClientConfig, _Lent] = OrderedDict()
        take_part(self)

    def locks(self) -> list[Any]:
        """Return the lock that a fork takes."""
        return [self._lock]

    def start_over(self) -> None:
        """Go on in a forked child: nobody there uses what was lent here."""
        self._lock = threading.Lock()
        for lent in self._kept.values():
            lent.users = 0
        _here.clear()

    @contextlib.contextmanager
    def lent(self, config: HttpClientConfig) -> Iterator[Core]:
        """Lend the client of a configuration for a call."""
        lent, unused = self._take(config)
        try:
            for old in unused:
                old.core.close(0.0)
            yield lent.core
        finally:
            with self._lock:
                lent.users -= 1

    def _take(self, config: HttpClientConfig) -> tuple[_Lent, list[_Lent]]:
        # Made without the lock, since it may import; of two that are made at once one is dropped.
        made = _Lent(config) if config not in self._kept else None
        with self._lock:
            lent = self._kept.get(config) or made or _Lent(config)
            self._kept[config] = lent
            self._kept.move_to_end(config)
            lent.users += 1
            spare = max(len(self._kept) - _MOST_CORES, 0)
            unused = [key for key, one in self._kept.items() if not one.users][:spare]
            return lent, [self._kept.pop(key) for key in unused]


_cores = _Cores()
