"""Ask many questions at once from a thread pool.

What it does: 40 calls from 8 threads; all share the process-wide client, so that 8 connections
carry them. A call that fails is reported and does not end the others.
Needs: OPENAI_API_KEY; or ``termai-http serve`` and the variables that it prints.
Run: python examples/thread_pool.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from termai_http import TermaiHttpError, chat, stats

THREADS = 8
QUESTIONS = [f"What is {number} squared?" for number in range(40)]


def ask(question: str) -> str:
    """Return the answer, or what went wrong."""
    try:
        return chat(question, model="gpt-5.5", timeout=60).text
    except TermaiHttpError as error:
        return f"failed: {error}"


def main() -> None:
    """Ask everything, and print answers in the order of the questions."""
    with ThreadPoolExecutor(THREADS) as pool:
        for question, answer in zip(QUESTIONS, pool.map(ask, QUESTIONS), strict=True):
            print(f"{question} {answer}")
    figures = stats()
    print(f"{figures.opened} connections opened, {figures.reuse_ratio:.0%} reused")


if __name__ == "__main__":
    main()
