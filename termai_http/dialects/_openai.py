"""What both of OpenAI's APIs share."""

from __future__ import annotations

from typing import ClassVar

import attrs

from .._secrets import Secret
from .._values import Value

__all__ = ["OpenAI"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class OpenAI(Value):
    """Whom requests to OpenAI come from.

    Args:
        organization: Value of ``OpenAI-Organization``; None sends none.
        project: Value of ``OpenAI-Project``; None sends none.
    """

    provider: ClassVar[str] = "openai"
    models_path: ClassVar[str] = "/models"

    organization: str | None = None
    project: str | None = None

    def headers(self, key: Secret, bearer: bool) -> dict[str, str]:
        """Return the headers that authenticate; the key always goes as a bearer token."""
        headers: dict[str, str] = {"Authorization": Secret(f"Bearer {key}")}
        if self.organization:
            headers["OpenAI-Organization"] = self.organization
        if self.project:
            headers["OpenAI-Project"] = self.project
        return headers
