"""Cells for a notebook whose questions are paid for once, in the percent format.

What it does: asks and streams through a cache in a file, and shows what each took. Run a
cell again, or start the kernel anew and run all of them: the answers are there, and nothing is
sent.
Needs: ANTHROPIC_API_KEY; or ``termai-http serve`` and the variables that it prints. The extra:
pip install "termai-http[cache]"
Run: paste the cells, or python examples/cached_notebook.py
"""

# %% A cache is a value: made again by this cell, it is the same one.
from termai_http import chat, stats, stream
from termai_http.contrib.cache import Cache

CACHED = {"model": "claude-opus-5-5", "layers": (Cache(ttl=7 * 86400),)}

# %% Ask. What was asked before is answered without a call.
reply = chat("Name three rivers.", **CACHED)
print(reply.text)
print(f"from the cache: {reply.from_cache}, {reply.elapsed:.3f} s")

# %% A stream comes as a stream each time.
with stream("Tell me a story", **CACHED) as story:
    for piece in story:
        print(piece, end="", flush=True)
print(f"\nfrom the cache: {story.response.from_cache}")

# %% What it saved so far, in this kernel.
print(stats().layers["cache"])
