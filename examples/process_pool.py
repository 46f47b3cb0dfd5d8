"""Ask many questions from a pool of processes.

What it does: 40 calls from 4 processes, as a program that already computes in processes would make
them. What travels is the configuration, the prompts and the name of the key's variable; each
process makes one client, and keeps its connections. For calls alone threads are enough:
``chat_many(questions, model=...)``.
Needs: OPENAI_API_KEY; or ``termai-http serve`` and the variables that it prints.
Run: python examples/process_pool.py
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from termai_http import chat_many

PROCESSES = 4
QUESTIONS = [f"What is {number} squared?" for number in range(40)]


def main() -> None:
    """Ask everything, and print answers in the order of the questions."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool:
        replies = chat_many(
            QUESTIONS,
            model="gpt-5.5",
            timeout=60,
            executor=pool,
            api_key_env="OPENAI_API_KEY",
            return_exceptions=True,
        )
        for question, reply in zip(QUESTIONS, replies, strict=True):
            print(question, reply)


if __name__ == "__main__":
    main()
