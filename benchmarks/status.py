"""Django's status page: how long the worker that shows it is busy with it."""

from __future__ import annotations

from ._measure import Bench, installed
from ._peers import OURS
from ._tables import Table, number, spread
from ._workers import Worker

__all__ = ["PAGE", "status_pages"]

_PATHS = {"as HTML": "/", "as JSON": "/status.json", "health": "/health/"}
PAGE = "the status page"
_MS = 1e3


def status_pages(bench: Bench) -> list[Table]:
    """Ask for each, in one process, in the order of the table."""
    if not installed("django"):
        return []
    rows = []
    with bench.workers([OURS], lambda name: Worker(["status", name], ())) as workers:
        for form, path in _PATHS.items():
            count = 50 if bench.quick else 200
            answer = bench.ask(workers, OURS, "pages", path=path, count=count)
            if answer is None:
                return []
            for wall in answer["walls"]:
                bench.note(f"{PAGE}, {form}", OURS, wall)
            figure = bench.figure(f"{PAGE}, {form}", OURS)
            rows.append([form, *spread(figure, 2, _MS), number(answer["size"] / 1024, 1)])
    note = (
        "By Django's own client, so without a server and a network, for staff with a session in "
        "the database, after 100,000 calls with 1,000 failures."
    )
    return [Table("The status page", ["form", "ms", "", "size, KiB"], rows, note)]
