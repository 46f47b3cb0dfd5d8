"""Keys are checked and masked."""

from __future__ import annotations

import copy
import pickle

import pytest

from termai_http import ConfigurationError
from termai_http._secrets import Secret, check_key, mask_echoes, request_texts


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_trailing_line_break_is_dropped(end: str) -> None:
    """A key read from a file is the key."""
    assert check_key(f"sk-key{end}", "here") == "sk-key"


@pytest.mark.parametrize(
    "key",
    [
        *("sk-secret\n\n", "sk-secret\nX: y", "sk-secret\r\nX: y", "sk-secret\x00", "sk-secret "),
        *(" sk-secret", "sk-secret\u2019", "sk-secret\t", "sk-secret" * 1000, b"sk-secret"),
    ],
)
def test_a_key_that_no_vendor_made_is_refused(key: str) -> None:
    """The message says where the key came from and what is wrong, and never shows it."""
    with pytest.raises(ConfigurationError, match="from here") as caught:
        check_key(key, "here")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.args)


def test_a_secret_is_masked_but_in_use() -> None:
    """Repr masks; the text itself is what goes out; copies pass, pickles do not."""
    secret = Secret("sk-secret")
    assert "secret" not in repr({"key": secret})
    assert f"Bearer {secret}" == "Bearer sk-secret"
    assert secret.encode() == b"sk-secret"
    assert copy.deepcopy([secret]) == ["sk-secret"]
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_what_stands_in_the_request_is_masked() -> None:
    """Runs of 12 characters and more are masked, shorter ones and the API's own words are not."""
    body = {
        "model": "a-model-with-a-long-name",
        "max_completion_tokens": 5,
        "messages": [{"role": "user", "content": "my private question", "short": "abc"}],
        "metadata": {"a-private-customer-name": "x"},
    }
    texts = request_texts(body, ["Bearer of-the-key-itself", "short"])
    said = (
        "a-model-with-a-long-name: max_completion_tokens, 'private question' by "
        "of-the-key-itself for a-private-customer-name, abc sk-proj-abc****xyz"
    )
    assert mask_echoes(said, texts) == (
        "a-model-with-a-long-name: max_completion_tokens, '***' by*** for ***, abc ***"
    )
    assert mask_echoes("short", request_texts([1], [])) == "short"


def test_a_masked_text_can_be_printed() -> None:
    """Escaped surrogates become the character they stand for, or the replacement character."""
    said = r"long enough party \ud83c\udf89 \ud83c!"
    assert mask_echoes(said, ["long enough party"]) == "*** 🎉 \ufffd!"
    assert mask_echoes("\ud83c\udf89 \ud83c", []) == "🎉 \ufffd"


def test_a_text_that_repeats_nothing_stays_as_it_is() -> None:
    """A backslash that is no escape is left alone."""
    assert mask_echoes(r"C:\temp\new is missing", ["something else"]) == r"C:\temp\new is missing"
