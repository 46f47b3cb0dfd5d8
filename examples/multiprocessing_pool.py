"""Ask many questions from ``multiprocessing.Pool``, with nothing but ``chat()``.

What it does: 40 calls from 4 processes. Nothing is set up in the processes: the first call of each
makes its client, and the later ones share its connections. It is safe however a process begins, by
a fork, too, of a program that has made calls before.
Needs: OPENAI_API_KEY; or ``termai-http serve`` and the variables that it prints.
Run: python examples/multiprocessing_pool.py
"""

from __future__ import annotations

import multiprocessing
import os

from termai_http import TermaiHttpError, chat

PROCESSES = 4
QUESTIONS = [f"What is {number} squared?" for number in range(40)]


def ask(question: str) -> tuple[str, int]:
    """Return the answer, or what went wrong, and the process that asked."""
    try:
        return chat(question, model="gpt-5.5", timeout=60).text, os.getpid()
    except TermaiHttpError as error:
        return f"failed: {error}", os.getpid()


def main() -> None:
    """Ask everything, and print answers in the order of the questions."""
    askers = set()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        answers = pool.imap(ask, QUESTIONS)
        for question, (answer, pid) in zip(QUESTIONS, answers, strict=True):
            print(question, answer)
            askers.add(pid)
    print(f"asked by up to {PROCESSES} processes: {len(askers) <= PROCESSES}")


if __name__ == "__main__":
    main()
