"""The one logger of this package; silent until the program configures logging."""

from __future__ import annotations

import logging

__all__ = ["log"]

log = logging.getLogger("termai_http")
log.addHandler(logging.NullHandler())
