"""How large a schema may be that a vendor's strict mode takes.

Source: https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from .stand_ins import target

__all__ = ["MOST_PROPERTIES", "check_size"]

MOST_PROPERTIES = 5000
_MOST_LEVELS = 10
_MOST_TEXT = 120_000
_MOST_VALUES = 1000
_MANY_VALUES = 250
_MOST_TEXT_OF_MANY = 15_000


def check_size(root: dict[str, Any], refuse: Callable[[str, str], NoReturn]) -> None:
    """Hold to the limits that OpenAI documents.

    Args:
        root: A schema in its strict form.
        refuse: Called with the place and the reason; raises.
    """
    text = values = 0
    for node in _nodes(root):
        names = [*node.get("properties", ()), *node.get("$defs", ())]
        texts = [str(value) for value in node.get("enum", ())]
        values += len(texts)
        if len(texts) > _MANY_VALUES and sum(map(len, texts)) > _MOST_TEXT_OF_MANY:
            refuse("$", f"an 'enum' of more than {_MOST_TEXT_OF_MANY} characters")
        text += sum(map(len, names)) + sum(map(len, texts)) + len(str(node.get("const", "")))
    if text > _MOST_TEXT:
        refuse("$", f"its names and values have more than {_MOST_TEXT} characters")
    if values > _MOST_VALUES:
        refuse("$", f"it has more than {_MOST_VALUES} values of 'enum'")
    if _levels(root, root, ()) > _MOST_LEVELS:
        refuse("$", f"objects are nested in objects more than {_MOST_LEVELS} levels deep")


def _inner(node: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from node.get("properties", {}).values()
    yield from node.get("anyOf", ())
    if "items" in node:
        yield node["items"]


def _nodes(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = [root, *root.get("$defs", {}).values()]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(_inner(node))


def _levels(node: dict[str, Any], root: dict[str, Any], within: tuple[str, ...]) -> int:
    """Count the objects in objects; one that holds itself counts once."""
    reference = node.get("$ref")
    if reference is not None:
        if reference in within or len(within) > _MOST_LEVELS:
            return 0
        found = target(reference, root)
        return _levels(dict(found or {}), root, (*within, reference))
    own = 1 if node.get("type") == "object" else 0
    return own + max((_levels(one, root, within) for one in _inner(node)), default=0)
