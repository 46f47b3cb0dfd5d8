"""The setting ``TERMAI_HTTP``: read, judged, and turned into a configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from django.conf import settings

from ..._numbers import is_number, is_whole
from ..._values import Value
from ...config import HttpClientConfig, Limits, RetryConfig
from ...errors import ConfigurationError

__all__ = [
    "Options",
    "Problem",
    "StatusOptions",
    "configuration",
    "options",
    "read",
    "setting",
]

NAME = "TERMAI_HTTP"

_CREDENTIAL = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_HEADER = re.compile(r"[A-Za-z0-9-]+")


def _field(
    default: Any, allowed: str, check: Callable[[Any], bool], *, optional: bool = True
) -> Any:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not (optional and value is None) and not check(value):
            raise ConfigurationError(
                f"{attribute.name} must be {allowed}{' or None' * optional}, not {value!r}."
            )

    return attrs.field(default=default, validator=validate)


def _positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _count(value: Any) -> bool:
    return is_whole(value, 1)


def _function(value: Any) -> bool:
    return callable(value) or (isinstance(value, str) and "." in value)


def _header_name(value: Any) -> bool:
    return isinstance(value, str) and _HEADER.fullmatch(value) is not None


_SECONDS = "a number of seconds above 0"
_HEADER_NAME = "the name of a header"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class StatusOptions(Value):
    """What the status page shows.

    Args:
        refresh: Seconds between two looks of an open page.
        recent: Failures that it lists.
        access: Function of the request that tells who may see it, or the dotted path of one; None
            lets staff in.
    """

    refresh: float = _field(2.0, _SECONDS, _positive, optional=False)
    recent: int = _field(20, "a whole number of at least 1", _count, optional=False)
    access: Callable[[Any], Any] | str | None = _field(  # noqa: RUF009
        None, "a function, or the dotted path of one", _function
    )


def _check_status(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, StatusOptions):
        raise ConfigurationError("status must be a dict.")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Options(Value):
    """What is Django's alone in the setting ``TERMAI_HTTP``.

    Args:
        request_timeout: Seconds that a request's calls have together, from the middleware on;
            None for no such limit.
        request_timeout_header: Header in which a request may ask for fewer seconds; None reads
            none.
        request_deadline_header: Header with the Unix time, in seconds, by which the answer is
            wanted; None reads none.
        heartbeat: Seconds of a model's silence after which ``sse_response`` sends a comment, and so
            finds out whether the browser is still there; None for never.
        worker_timeout: Seconds after which the web server kills a worker that is busy with one
            request (gunicorn's ``--timeout`` of sync workers), for the checks; None means what
            ``GUNICORN_CMD_ARGS`` says.
        status: The status page.
    """

    request_timeout: float | None = _field(None, _SECONDS, _positive)
    request_timeout_header: str | None = _field("X-Request-Timeout", _HEADER_NAME, _header_name)
    request_deadline_header: str | None = _field(None, _HEADER_NAME, _header_name)
    heartbeat: float | None = _field(5.0, _SECONDS, _positive)
    worker_timeout: float | None = _field(None, _SECONDS, _positive)
    status: StatusOptions = attrs.field(factory=StatusOptions, validator=_check_status)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Problem(Value):
    """Something wrong in the setting.

    Attributes:
        kind: ``"unknown"``, ``"value"``, ``"shape"`` or ``"credential"``.
        message: What is wrong; shows no credential.
        hint: What to do.
    """

    kind: str
    message: str
    hint: str


_NESTED: dict[str, type[Any]] = {
    "retry": RetryConfig,
    "limits": Limits,
    "status": StatusOptions,
}


def read(given: object) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """Read a value of the setting.

    Returns:
        Fields of ``HttpClientConfig`` (those of ``retry`` as a dict of its own), fields of
        ``Options``, and all that is wrong; what is wrong is in neither dict.
    """
    problems: list[Problem] = []
    found = _collect((HttpClientConfig, Options), given, NAME, problems)
    own = {field.name for field in attrs.fields(Options)}
    return (
        {name: value for name, value in found.items() if name not in own},
        {name: value for name, value in found.items() if name in own},
        problems,
    )


def _collect(
    classes: tuple[type[Any], ...], given: object, path: str, problems: list[Problem]
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        hint = f'Write {path.rpartition(".")[2]} = {{"TIMEOUT": 30}}.' if path == NAME else ""
        message = f"{path} must be a dict, not {type(given).__name__}."
        problems.append(Problem(kind="shape", message=message, hint=hint or "Use a dict."))
        return {}
    known = {field.name.upper(): (cls, field) for cls in classes for field in attrs.fields(cls)}
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            problems.append(_unknown(key, list(known), path))
            continue
        cls, field = known[key]
        nested = _NESTED.get(field.name)
        if nested is not None and isinstance(value, Mapping):
            inner = _collect((nested,), value, f"{path}[{key!r}]", problems)
            # Which retries it starts from is known with the environment only.
            found[field.name] = inner if field.name == "retry" else nested(**inner)
            continue
        try:
            cls(**{field.name: value})
        except ConfigurationError as error:
            message = f"{path}[{key!r}]: {error.message}"
            hint = "A dict will do." if nested else "Times are seconds, sizes bytes."
            problems.append(Problem(kind="value", message=message, hint=hint))
        else:
            found[field.name] = value
    return found


def _unknown(key: object, known: list[str], path: str) -> Problem:
    name = key if isinstance(key, str) else type(key).__name__
    close = next(iter(difflib.get_close_matches(name.upper(), known, n=1)), None)
    if close is None and _CREDENTIAL.search(name):
        return Problem(
            kind="credential",
            message=f"{path}[{name!r}]: credentials are not read from the settings.",
            hint="Set OPENAI_API_KEY or ANTHROPIC_API_KEY in the environment of the server, or"
            " give a call its api_key=; a key in a settings file ends in the repository.",
        )
    hint = f"Did you mean {close!r}?" if close else f"Known are {', '.join(sorted(known))}."
    return Problem(kind="unknown", message=f"{path} has no entry {name!r}.", hint=hint)


def setting() -> object:
    """Return the setting as it is; an empty one where the project has none."""
    return getattr(settings, NAME, _NOTHING)


_NOTHING: Mapping[str, Any] = {}


def _checked(given: object) -> tuple[dict[str, Any], dict[str, Any]]:
    config, own, problems = read(given)
    if problems:
        raise ConfigurationError(
            f"The setting {NAME} cannot be used: "
            + " ".join(f"{problem.message} {problem.hint}" for problem in problems)
        )
    return config, own


def configuration() -> HttpClientConfig:
    """Return the configuration that the settings ask for.

    What they do not name comes from the ``TERMAI_HTTP_*`` variables, then the defaults.

    Raises:
        ConfigurationError: The setting, or a variable, cannot be used.
    """
    base = HttpClientConfig.from_env()
    changes, _ = _checked(setting())
    retry = changes.get("retry")
    if isinstance(retry, dict):
        changes["retry"] = (base.retry or RetryConfig()).evolve(**retry)
    return base.evolve(**changes)


_cached: tuple[object, Options] | None = None


def options() -> Options:
    """Return what is Django's alone in the settings; remembered until the setting is another.

    Raises:
        ConfigurationError: The setting cannot be used.
    """
    global _cached
    given, cached = setting(), _cached
    if cached is not None and cached[0] is given:
        return cached[1]
    _, own = _checked(given)
    made = Options(**own)
    _cached = (given, made)
    return made
