"""How gunicorn runs the example: ``gunicorn chatsite.wsgi``.

Waiting for a model takes no processor, so a worker answers many requests in threads. Each worker
has one pool of connections, made at its first call; nothing is shared over the fork, with
``preload_app`` neither.
"""

from __future__ import annotations

bind = "127.0.0.1:8000"
workers = 2
worker_class = "gthread"
threads = 16
timeout = 60
