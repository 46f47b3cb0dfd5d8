"""Ask many questions on a Dask cluster.

What it does: 100 calls on two worker processes of this machine. With the address of a scheduler the
same call runs on a cluster: ``python examples/dask_cluster.py tcp://scheduler:8786``. The workers
need this package, and the key in the variable that ``api_key_env`` names. A worker that dies loses
nothing: Dask runs its items again, and pays those a second time that were asked already.
Needs: pip install "termai-http[dask]"; OPENAI_API_KEY, or ``termai-http serve`` and the variables
that it prints.
Run: python examples/dask_cluster.py
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

from distributed import Client, LocalCluster

from termai_http import TermaiHttpError, chat_many

QUESTIONS = [f"What is {number} squared?" for number in range(100)]


def main() -> None:
    """Ask everything, and print answers in the order of the questions."""
    with ExitStack() as stack:
        if len(sys.argv) > 1:
            where: str | LocalCluster = sys.argv[1]
        else:
            where = stack.enter_context(
                LocalCluster(
                    n_workers=2,
                    threads_per_worker=4,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                )
            )
        dask = stack.enter_context(Client(where))
        replies = chat_many(
            QUESTIONS,
            model="gpt-5.5",
            timeout=60,
            executor=dask.get_executor(pure=False),
            # As many as the threads of all workers, so that none is idle.
            max_workers=sum(dask.nthreads().values()),
            api_key_env="OPENAI_API_KEY",
            return_exceptions=True,
        )
        failed = 0
        for question, reply in zip(QUESTIONS, replies, strict=True):
            print(question, reply)
            failed += isinstance(reply, TermaiHttpError)
    print(f"{len(QUESTIONS)} asked, {failed} failed")


if __name__ == "__main__":
    main()
