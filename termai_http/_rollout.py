"""Which calls use the shared pool while it is rolled out. Pure, but for asking a flag service."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeAlias

from ._log import log

__all__ = ["FlagService", "Key", "Rollout", "place_of"]

Key: TypeAlias = "str | int | bytes"
FlagService: TypeAlias = "Callable[[Key | None], bool]"

# Fixed, so that a key has the same place in every process.
_SALT = b"termai-http.pooling:"
_SPAN = 2**32


def place_of(key: Key) -> float:
    """Return where a key lies, at least 0.0 and below 1.0: a share above that covers it.

    Text counts as its UTF-8, a number as its digits.
    """
    data = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    return zlib.crc32(_SALT + data) / _SPAN


class Rollout:
    """Decides for each call whether it uses the shared pool. Safe from any thread.

    Args:
        pooling: The share of calls that do, or a function that tells by a call's key.
    """

    def __init__(self, pooling: float | FlagService) -> None:
        self._ask = pooling if callable(pooling) else None
        self._share = 1.0 if callable(pooling) else pooling
        self._failed = False

    def pools(self, key: Key | None, draw: Callable[[float, float], float]) -> bool:
        """Tell whether a call uses the pool.

        Args:
            key: What the answer is steady for; None draws.
            draw: Returns a number between two others, by chance.
        """
        if self._ask is not None:
            return self._asked(self._ask, key)
        if self._share >= 1.0:
            return True
        return (draw(0.0, 1.0) if key is None else place_of(key)) < self._share

    def _asked(self, ask: FlagService, key: Key | None) -> bool:
        # The key may name a person, and so may what the function raises: neither is logged.
        try:
            answer = ask(key)
        except Exception as error:
            return self._without_answer(f"raised {type(error).__name__}")
        if answer is True or answer is False:
            return answer
        return self._without_answer(f"returned {type(answer).__name__}, not True or False")

    def _without_answer(self, why: str) -> bool:
        if not self._failed:
            self._failed = True
            log.warning(
                "HttpClientConfig(pooling=...) is a function that %s: such calls use the pool. "
                "This is logged once.",
                why,
            )
        return True
