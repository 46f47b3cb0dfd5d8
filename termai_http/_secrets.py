"""Keys: checked once, masked wherever they could be shown, and kept out of error texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from .errors import ConfigurationError, MissingKeyError

__all__ = [
    "Secret",
    "check_key",
    "mask_all",
    "mask_echoes",
    "request_texts",
    "without_lone_surrogates",
]

# Tokens of an identity provider, as Azure takes them, have some thousands of characters.
_LONGEST_KEY = 8192
_KEY = re.compile(f"[!-~]{{1,{_LONGEST_KEY}}}")
_KEY_SHAPED = re.compile(r"\b(?:sk|pk|key)-[\w*.\-]{4,}", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": " ", "f": " "}
_ESCAPE_DEPTH = 3
_MASK = "***"
_ECHO = 12


class Secret(str):
    """Text whose repr is masked, so that dumps of locals and headers do not show it.

    ``str()`` of it, and encoding it, give the text itself: that is how it reaches the wire.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{_MASK}'"

    def __deepcopy__(self, memo: object) -> Secret:
        # vcrpy and others copy a request before they filter it.
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("API keys are not pickled; send the name of the key's variable instead")


def check_key(key: str, source: str) -> Secret:
    """Validate an API key.

    Args:
        key: The key; one trailing line break, as files have it, is dropped.
        source: Where it came from, for the message.

    Raises:
        ConfigurationError: It holds anything but printable ASCII without spaces. The message
            says where the first wrong character stands and never shows the key.
    """
    if not isinstance(key, str):
        raise ConfigurationError(f"The API key from {source} is {type(key).__name__}, not text.")
    stripped = key[:-2] if key.endswith("\r\n") else key.removesuffix("\n")
    if _KEY.fullmatch(stripped):
        return Secret(stripped)
    if not stripped:
        raise MissingKeyError(f"The API key from {source} is empty.")
    if len(stripped) > _LONGEST_KEY:
        raise ConfigurationError(
            f"The API key from {source} is longer than {_LONGEST_KEY} characters."
        )
    at = next(index for index, char in enumerate(stripped) if not "!" <= char <= "~")
    raise ConfigurationError(
        f"The API key from {source} has a character that no key has at position {at} "
        "(a space, a line break, a NUL or a non-ASCII character). Copy the key again."
    )


def request_texts(body: Any, secrets: Iterable[str]) -> list[str]:
    """Collect what an error text must not repeat: prompts and keys, not the API's own words.

    Args:
        body: The request body; its top-level names and ``model`` belong to the API and stay
            readable, since error messages are useless without them.
        secrets: Keys and header values of the request.
    """
    texts = [secret for secret in secrets if len(secret) >= _ECHO]
    if isinstance(body, Mapping):
        for name, value in body.items():
            if name != "model":
                texts.extend(_leaves(value))
    return texts


def _leaves(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if len(item) >= _ECHO:
                yield item
        elif isinstance(item, Mapping):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)


def without_lone_surrogates(text: str) -> str:
    """Return ``text`` with pairs joined, and U+FFFD for lone ones, which no file takes."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(text: str) -> str:
    """Undo JSON's escapes, also doubled ones, and fold white space: one spelling for one text."""
    for _ in range(_ESCAPE_DEPTH):
        # An image has megabytes and no escape.
        unescaped = _ESCAPE.sub(_unescape, text) if "\\" in text else text
        if unescaped == text:
            break
        text = unescaped
    return " ".join(without_lone_surrogates(text).split())


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED.get(code, code)


def mask_echoes(text: str, request: list[str]) -> str:
    """Mask in ``text`` every run of 12 or more characters that also stands in the request."""
    return mask_all((text,), request)[0]


def mask_all(texts: Sequence[str], request: list[str]) -> list[str]:
    """Mask in texts every run of 12 or more characters that also stands in the request.

    Servers repeat a request as JSON within JSON, or with its line breaks lost, so both are
    compared without escapes and with white space folded; a text that repeats nothing stays as
    it is. All at once, since a request may have megabytes.
    """
    plains = [_plain(text) for text in texts]
    repeated = _repeated(plains, "\0".join(map(_plain, request)))
    masked = []
    for text, plain in zip(texts, plains, strict=True):
        hidden = _masked(plain, repeated)
        hidden = without_lone_surrogates(text) if hidden == plain else hidden
        masked.append(_KEY_SHAPED.sub(_MASK, hidden))
    return masked


def _masked(text: str, repeated: set[str]) -> str:
    kept: list[str] = []
    masked_to = 0
    for at in range(len(text)):
        if text[at : at + _ECHO] in repeated:
            if at >= masked_to:
                kept.append(_MASK)
            masked_to = at + _ECHO
        elif at >= masked_to:
            kept.append(text[at])
    return "".join(kept)


def _repeated(texts: Iterable[str], haystack: str) -> set[str]:
    """Return the runs of ``_ECHO`` characters of ``texts`` that stand in ``haystack`` too.

    One pass. Every run covers a block of half its length that begins at a multiple of that, so runs
    are compared only around the blocks that ``texts`` have.
    """
    half = _ECHO // 2
    runs = {text[at : at + _ECHO] for text in texts for at in range(len(text) - _ECHO + 1)}
    blocks = {run[at : at + half] for run in runs for at in range(half)}
    found: set[str] = set()
    for at in range(0, len(haystack) if runs else 0, half):
        if haystack[at : at + half] in blocks:
            nearby = (haystack[start : start + _ECHO] for start in range(max(at - half, 0), at + 1))
            found.update(runs.intersection(nearby))
            if len(found) == len(runs):
                break
    return found
