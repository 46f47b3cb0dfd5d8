"""Ask many questions with joblib.

What it does: 40 calls from 8 threads of ``joblib.Parallel``; all share the process-wide client, and
so its connections. Threads are right for calls, which mostly wait; in a program that has
``Parallel(n_jobs=...)`` around heavy work, with processes, ``chat()`` works the same, with a
client in each process.
Needs: joblib; OPENAI_API_KEY, or ``termai-http serve`` and the variables that it prints.
Run: python examples/joblib_pool.py
"""

from __future__ import annotations

from joblib import Parallel, delayed

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
    parallel = Parallel(n_jobs=THREADS, prefer="threads")
    answers = parallel(delayed(ask)(question) for question in QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        print(question, answer)
    figures = stats()
    print(f"{figures.opened} connections opened, {figures.reuse_ratio:.0%} reused")


if __name__ == "__main__":
    main()
