"""The input of ``termai-http batch``: lines of JSON as items, read one at a time."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import attrs

from .._options import CallOptions, check_params
from .._request import model_or_default
from ..errors import InvalidRequestError, TermaiHttpError
from ..models import ChatRequest, as_messages

__all__ = ["Lines", "NoModel"]

_FIELDS = ("model", "system", "max_tokens", "tools", "output", "reasoning", "stop")
_OPTIONS = frozenset({field.name for field in attrs.fields(CallOptions)} | {"stream", "client"})
_SHAPE = 'a line is a text, or an object with "prompt" or "messages"'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLOCK = 1 << 20
_WORD = (1 << 64) - 1
_FIRST_ROOM = 1 << 10


class NoModel(InvalidRequestError):
    """A line names no model, and nothing else does: no line will be better for being tried."""


class Lines:
    """The items of an input, an iterable for one ``chat_many``.

    A line that is none is an ``InvalidRequestError`` in the place of an item, and told at once.

    Args:
        file: Where they are read.
        model: The model of lines that name none; None for none.
        tell: Is told of broken lines and of ids that come again.
        check: Is called once, before the first item that names no model; what it raises ends all.
        counted: Whether ``len()`` tells how many there are, for which the file is read twice.
    """

    def __init__(
        self,
        file: BinaryIO,
        model: str | None,
        tell: Callable[[str], None],
        check: Callable[[], None],
        *,
        counted: bool,
    ) -> None:
        self._file = file
        self._model = model
        self._tell = tell
        self._check: Callable[[], None] | None = check
        self._counted = counted
        self._blanks = array("Q")
        self._ids = _Seen()
        self.broken = 0

    def __len__(self) -> int:
        if not self._counted or not self._file.seekable():
            raise TypeError("the number of lines is not known before they are read")
        begin = self._file.tell()
        count = sum(1 for line in self._file if line.strip())
        self._file.seek(begin)
        return count

    def __iter__(self) -> Iterator[Any]:
        index = 0
        for number, line in enumerate(self._file, 1):
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if not line.strip():
                self._blanks.append(index)
                continue
            index += 1
            try:
                item = self._item(line, number)
            except NoModel:
                raise
            except TermaiHttpError as error:
                self.broken += 1
                message = f"line {number}: {error.message}"
                self._tell(message)
                yield InvalidRequestError(message)
                continue
            if self._check is not None and "model" not in item:
                check, self._check = self._check, None
                check()
            yield item

    def line_of(self, index: int) -> int:
        """Return the number of the line, from 1, that an item was read from."""
        return index + 1 + bisect_right(self._blanks, index)

    def _item(self, line: bytes, number: int) -> dict[str, Any]:
        fields = _object(line)
        own = fields.get("id")
        if own is not None and (isinstance(own, bool) or not isinstance(own, (str, int))):
            raise InvalidRequestError("its id must be text or a whole number.")
        if own is not None and self._ids.again(own):
            self._tell(f"line {number}: its id {json.dumps(own)} is that of an earlier line, too")
        if "body" in fields and "custom_id" in fields:
            raise InvalidRequestError(
                "it is a line of OpenAI's batch API; here the fields of its body stand in the line "
                "itself, and its custom_id is id."
            )
        asked = [name for name in ("prompt", "messages") if fields.get(name) is not None]
        if len(asked) != 1:
            raise InvalidRequestError(f"{_SHAPE}{', not with both' if asked else ''}.")
        item = {name: fields[name] for name in _FIELDS if fields.get(name) is not None}
        extra = {name: fields[name] for name in fields if name not in _KNOWN}
        _check_extra(extra)
        if self._model is None and "model" not in item:
            _check_default(number)
        # Here, since only here the number of the line is known.
        as_messages(fields[asked[0]])
        ChatRequest(
            **{"model": self._model or "a model", **item}, messages=fields[asked[0]], extra=extra
        )
        return {**item, "id": own, asked[0]: fields[asked[0]], "extra": extra}


_KNOWN = frozenset({*_FIELDS, "id", "prompt", "messages"})


def _object(line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line.rstrip().decode())
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"not UTF-8: byte {error.start + 1} of the line.") from None
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"not JSON: {error.msg} at column {error.colno}.") from None
    except RecursionError:
        raise InvalidRequestError("not JSON that can be read: it is nested too deeply.") from None
    except ValueError:
        raise InvalidRequestError("it has a number of more digits than Python reads.") from None
    if isinstance(given, str):
        return {"prompt": given}
    if isinstance(given, dict):
        return given
    raise InvalidRequestError(f"{_SHAPE}, not {_kind_of(given)}.")


def _kind_of(given: Any) -> str:
    kinds = {list: "a list", bool: str(given).lower(), type(None): "null"}
    return kinds.get(type(given), "a number")


def _check_extra(extra: dict[str, Any]) -> None:
    for name in _OPTIONS.intersection(extra):
        option = name.replace("_", "-")
        raise InvalidRequestError(
            f"{name} is no field of a line: it holds for all lines, as an option of the command "
            f"(--{option}, where there is one)."
        )
    check_params(extra)


def _check_default(number: int) -> None:
    try:
        model_or_default(None)
    except InvalidRequestError:
        raise NoModel(
            f"line {number} names no model: give -m MODEL, or set TERMAI_HTTP_MODEL."
        ) from None


class _Seen:
    """The ids that came, 8 to 32 bytes each: a set of a million texts would take 100 MB."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * _FIRST_ROOM))
        self._count = 0

    def again(self, one: str | int) -> bool:
        """Take an id in; tells whether it was there."""
        # Its hash stands for it: that two of a million share one is as likely as a broken bit.
        mark = (hash((type(one), one)) & _WORD) or 1
        if self._put(mark):
            return True
        self._count += 1
        if 2 * self._count > len(self._table):
            old = self._table
            self._table = array("Q", bytes(16 * len(old)))
            for kept in old:
                if kept:
                    self._put(kept)
        return False

    def _put(self, mark: int) -> bool:
        table = self._table
        last = len(table) - 1
        at = mark & last
        while (there := table[at]) != 0:
            if there == mark:
                return True
            at = (at + 1) & last
        table[at] = mark
        return False
