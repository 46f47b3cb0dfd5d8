"""Cells for a notebook, in the percent format that Jupytext and editors read.

What it does: asks, shows the reply and its figures, and ends a call that takes too long from
another cell's point of view: by its deadline.
Needs: ANTHROPIC_API_KEY; or ``termai-http serve`` and the variables that it prints.
Run: paste the cells, or python examples/notebook_cell.py
"""

# %% Ask. The process-wide client lives as long as the kernel: cells share its connections.
from termai_http import DeadlineExceeded, chat, stats

reply = chat(
    [{"role": "user", "content": "Name three rivers."}],
    model="claude-opus-5-5",
    system="Answer with a list.",
)
print(reply.text)

# %% What did it take?
print(f"{reply.usage.total_tokens} tokens, {reply.attempts} attempt(s), {reply.elapsed:.2f} s")

# %% A cell never hangs: the deadline spans attempts, waits and the body.
try:
    print(chat("Name a lake.", model="claude-opus-5-5", timeout=20).text)
except DeadlineExceeded as error:
    print(error)

# %% Connections opened by this kernel so far.
print(f"{stats().opened} opened, {stats().reused} reused")
