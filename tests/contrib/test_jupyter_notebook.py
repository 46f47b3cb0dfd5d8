"""The example notebook runs in a real kernel, from its first cell to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from termai_http.testing import Server

from .jupyter_kernel import KEY, PATIENCE, environment

PATH = Path(__file__).parents[2] / "examples" / "chat_in_notebook.ipynb"


@pytest.fixture
def notebook(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook after it was run."""
    # Here and not above: they look for the folders of the machine's Jupyter.
    import nbformat
    from nbclient import NotebookClient

    for name, value in environment(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    read = nbformat.read(PATH, as_version=4)
    nbformat.validate(read)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in read.cells)
    NotebookClient(read, timeout=PATIENCE).execute()
    return read


def test_the_example_notebook_runs(notebook: Any, server: Server) -> None:
    """Each cell shows what the text before it promises, and the calls share connections."""
    cells = {cell["id"]: cell for cell in notebook.cells if cell["cell_type"] == "code"}
    shown = {name: [one.get("data", {}) for one in cell.outputs] for name, cell in cells.items()}
    for name, text in (
        ("rivers", "You said: Name three rivers, and what is **remarkable** about each."),
        ("story", "You said: Tell me a story of a river"),
        ("again", "You said: Again, with the first of these rivers:\n\nYou said: Name three"),
        ("many", "You said: What is 19 squared?"),
    ):
        (output,) = shown[name]
        assert output["text/markdown"].startswith(text)
    assert cells["load"].outputs == []
    (table,) = shown["stats"]
    assert "23 succeeded (100.0%), 0 failed" in table["text/html"]
    assert len(server.requests) == 23
    assert len(server.connections) <= 9
    assert KEY not in str(notebook)
