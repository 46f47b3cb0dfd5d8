"""Where in a results file what is, a few bytes for each of millions."""

from __future__ import annotations

from array import array

__all__ = ["NOWHERE", "Places"]

NOWHERE = (1 << 64) - 1
"""The offset of an error, which is never read again."""
# What an index may be ahead of those before it and still have a place of its own.
_MOST_AHEAD = 1 << 20


class Places:
    """What is in a file, by index: the digest of each item, and where its line begins."""

    def __init__(self) -> None:
        self._digests, self._offsets = array("Q"), array("Q")
        self._far: dict[int, tuple[int, int]] = {}
        self.replies = 0

    def put(self, index: int, digest: int, offset: int) -> None:
        """Note a line, an error's at ``NOWHERE``; the last wins, but no error over a reply."""
        new = self.get(index) is None
        if offset == NOWHERE and not new:
            return
        self.replies += new and offset != NOWHERE
        ahead = index - len(self._digests)
        if ahead > _MOST_AHEAD:
            self._far[index] = digest, offset
            return
        if ahead >= 0:
            self._digests.extend([0] * (ahead + 1))
            self._offsets.extend([NOWHERE] * (ahead + 1))
        self._digests[index] = digest
        self._offsets[index] = offset

    def get(self, index: int) -> tuple[int, int] | None:
        """Return digest and offset of a reply; None where there is none."""
        there = self._at(index)
        return None if there is None or there[1] == NOWHERE else there

    def failed(self, index: int) -> int | None:
        """Return the digest of an error, 0 where it has none; None where there is no error."""
        there = self._at(index)
        return None if there is None or there[1] != NOWHERE else there[0]

    def replies_from(self, index: int) -> int:
        """Return how many replies have this index or a higher one."""
        near = sum(offset != NOWHERE for offset in self._offsets[index:])
        return near + sum(at >= index and there[1] != NOWHERE for at, there in self._far.items())

    def _at(self, index: int) -> tuple[int, int] | None:
        there = self._far.get(index) if self._far else None
        if there is None and index < len(self._digests):
            there = self._digests[index], self._offsets[index]
        return there
