"""The short forms of the hard evidence; ``python -m tests.evidence`` runs all of it."""

from __future__ import annotations

import pytest

from .runner import EVIDENCE, play


@pytest.mark.evidence
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EVIDENCE)
def test_short_form_finds_no_flaw(name: str) -> None:
    """A script of evidence, in its short form, finds nothing that must not be."""
    seen = play(name, short=True)
    assert seen.well, f"{seen.line}\n{seen.told}"
