"""Whether a results file belongs to the items of a batch, before anything is paid for it."""

from __future__ import annotations

from ._batch_file import ResultFile
from ._batch_window import BatchItem

__all__ = ["Proof"]


class Proof:
    """Keeps items back until a reply of the file is known to be one of theirs.

    A file of another job would get lines that its own job could not go on with, and they would be
    paid. A file without replies is anybody's.

    Args:
        file: The results file.
    """

    def __init__(self, file: ResultFile) -> None:
        self._file = file
        self._found = not file.replies
        self._kept_back: list[BatchItem] = []
        self._suspect: int | None = None

    def keeps_back(self, item: BatchItem) -> bool:
        """Keep an item without a reply, unless the file is known; tell whether it was kept."""
        if self._found:
            return False
        failed = self._file.failed_digest(item.number)
        if self._suspect is None and failed not in (None, 0, item.digest):
            self._suspect = item.number
        self._kept_back.append(item)
        return True

    def find(self) -> list[BatchItem]:
        """Take note that a reply was one of these items', and return what was kept back."""
        self._found = True
        kept_back, self._kept_back = self._kept_back, []
        return kept_back

    def give_up(self) -> list[BatchItem]:
        """Wait for no reply of these items any more, and return what was kept back.

        Raises:
            ConfigurationError: The errors in the file are of other requests.
        """
        if not self._found and self._suspect is not None:
            raise self._file.changed(self._suspect)
        return self.find()
