"""Settings of Sphinx; ``python -m sphinx -W -n docs BUILD`` builds the pages."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

# The checkout's own package is described, whatever is installed beside it.
sys.path.insert(0, str(Path(__file__).parents[1]))

import attrs

import termai_http

project = "termai_http"
author = "termai_http contributors"
copyright = author
release = version = termai_http.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"termai_http {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"
pygments_dark_style = "github-dark"
language = "en"
# Of its signs only the dashes: quotes stay as they are typed.
smartquotes_action = "D"
nitpicky = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 60
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# What other projects describe; without a network nothing of theirs can be looked up.
nitpick_ignore_regex = [
    ("py:.*", r"(collections\.abc|contextlib|datetime|os|pathlib|ssl|typing)\..*"),
    ("py:.*", r"(django|requests|concurrent)\..*"),
    ("py:class", "Executor|PooledSession|Self|T|TracerProvider|Answered|.*middleware.View"),
    # What a layer sees of a call beside what is described.
    ("py:class", "Attempt|AttemptLimits|Call|Clock|Job|RetryBudget|Send"),
]

_OURS = {name: f"termai_http.{name}" for name in termai_http.__all__}
_MODULES = ("events", "layers", "metrics", "models", "testing")


def _public_target(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Let a type that is written as in the code lead to where it is described."""
    name = node.get("reftarget", "").rpartition(".")[2]
    domain = env.get_domain("py")
    for full in (_OURS.get(name), *(f"termai_http.{module}.{name}" for module in _MODULES)):
        if full in domain.objects:
            # As any kind of object: a type may be a name for others, which is described as data.
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", full, node, contnode
            )
    return None


def _signature(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Leave out how to make what nobody makes: errors, and values that say what they hold."""
    doc = getattr(obj, "__doc__", None) or ""
    if what == "exception" or (what == "class" and "Attributes:" in doc and "Args:" not in doc):
        return "", None
    if signature and what == "class" and attrs.has(obj):
        signature = _with_made_defaults(obj, signature)
    return signature, result and result.replace("termai_http._adapter._Self", "Self")


def _with_made_defaults(cls: type[Any], signature: str) -> str:
    """Say what a default is that is made anew for each instance."""
    for field in attrs.fields(cls):
        factory = getattr(getattr(field.default, "factory", None), "__name__", None)
        if factory is not None:
            made = "{}" if factory == "dict" else f"{factory}()"
            signature = re.sub(rf"\b({field.name}: [^=]*= )NOTHING", rf"\g<1>{made}", signature)
    return signature


def _docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep Napoleon from taking the words before a colon for a type: the annotations say those."""
    if what in ("attribute", "data", "property") and lines:
        lines[0] = lines[0].replace(": ", " \u2013 ", 1)
    for index, line in enumerate(lines[:-1]):
        if line == "Returns:":
            lines[index + 1] = lines[index + 1].replace("``: ", "``, ", 1)


def setup(app: Any) -> None:
    """Add what this project needs beside the extensions."""
    app.connect("missing-reference", _public_target)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=100)
