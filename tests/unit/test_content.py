"""Images and documents as values: read and checked where they are made."""

from __future__ import annotations

import base64
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from termai_http import Document, Image, InvalidRequestError
from termai_http import _content as content

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
JPEG = b"\xff\xd8\xff\xe0" + b"pixels"
GIF = b"GIF89a" + b"pixels"
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 "
PDF = b"%PDF-1.7\n%%EOF"
SECRET = "what nobody may see"


def as_data_url(data: bytes, media_type: str = "image/png") -> str:
    """Return a data: URL of bytes."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (GIF.replace(b"89a", b"87a"), "image/gif"),
        (WEBP, "image/webp"),
    ],
)
def test_an_image_is_known_by_its_first_bytes(data: bytes, media_type: str) -> None:
    """The bytes say what an image is, whatever name or type somebody gave it."""
    source = Image(data).source
    assert (source.data, source.media_type, source.url) == (data, media_type, None)
    assert source.data_url == as_data_url(data, media_type)
    assert Image(as_data_url(data, "image/wrong")).source == source


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind_are_taken(kind: Any) -> None:
    """What can be read as bytes is copied, so that a later change does not matter."""
    assert Image(kind(PNG)).source.data == PNG
    assert Document(kind(PDF)).source.data == PDF


def test_a_file_is_read_when_the_value_is_made(tmp_path: Path) -> None:
    """A path as text or as Path gives the bytes and the name, and the file may go afterwards."""
    path = tmp_path / "a picture.png"
    path.write_bytes(PNG)
    made = [Image(path), Image(str(path))]
    path.unlink()
    assert [image.source.data for image in made] == [PNG, PNG]
    assert made[0].source.name == "a picture.png"


@pytest.mark.parametrize("url", ["https://example.com/a.png", "HTTP://example.com/a"])
def test_a_url_is_for_the_vendor_to_read(url: str) -> None:
    """A URL stays one, and nothing is read."""
    assert Image(url).source.url == url
    assert Document(url).source.data_url == url


@pytest.mark.parametrize(
    ("name", "source", "title"),
    [
        (None, PDF, "document.pdf"),
        ("report.pdf", PDF, "report.pdf"),
        (None, "https://example.com/x.pdf", "document.pdf"),
    ],
)
def test_a_document_has_a_title(name: str | None, source: Any, title: str) -> None:
    """The title is the name given, or a plain one."""
    assert Document(source, name=name).title == title


def test_a_document_is_named_after_its_file(tmp_path: Path) -> None:
    """A file's name is the title, unless another was given."""
    path = tmp_path / "contract.pdf"
    path.write_bytes(b"\n" * 1000 + PDF)
    assert Document(path).title == "contract.pdf"
    assert Document(path, name="x").title == "x"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "The image is empty"),
        (b"hello", "no PNG, JPEG, GIF or WebP"),
        (b"<svg xmlns=''/>", "no PNG"),
        (PDF, "no PNG"),
        (WEBP.replace(b"WEBP", b"WAVE"), "no PNG"),
        (WEBP.replace(b"RIFF", b"RIFX"), "no PNG"),
        ("", "not ''"),
        (None, "not None"),
        (3, "not int"),
        (["a"], "not list"),
        (Image(PNG), "not Image"),
        ("data:image/png;base64", "without valid base64"),
        ("data:image/png,iVBORw0KGgo=", "without valid base64"),
        ("data:image/png;base64,?", "without valid base64"),
        ("data:image/png;base64,", "is empty"),
        ("no-such-file.png", "'no-such-file.png' cannot be read: (?!no such path)"),
        ("x" * 512, "' cannot be read: "),
        ("bad\0name", "cannot be read: no such path"),
        (".", "it is no file"),
    ],
)
def test_what_is_no_image_is_refused(given: Any, says: str) -> None:
    """The error says what is wrong, and that before anything is sent."""
    with pytest.raises(InvalidRequestError, match=says):
        Image(given)


@pytest.mark.parametrize(
    ("given", "says"),
    [(PNG, "no PDF"), (b"x" * 1024 + PDF, "no PDF"), (b"", "is empty"), (None, "The document")],
)
def test_what_is_no_pdf_is_refused(given: Any, says: str) -> None:
    """A document is a PDF, which may begin within the first 1024 bytes."""
    with pytest.raises(InvalidRequestError, match=says):
        Document(given)


@pytest.mark.parametrize("detail", ["auto", "low", "high", "original", None])
def test_detail_is_one_of_openais_words(detail: str | None) -> None:
    """Every word of OpenAI's is taken."""
    assert Image(PNG, detail=detail).detail == detail


def test_another_detail_is_refused() -> None:
    """A slip is told."""
    with pytest.raises(InvalidRequestError, match="detail must be"):
        Image(PNG, detail="highest")


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, data: URLs and files above the limit are refused, a file by its size alone."""
    monkeypatch.setattr(content, "_MOST_BYTES", len(PNG))
    path = tmp_path / "large.png"
    path.write_bytes(PNG)
    assert Image(path).source.data == PNG
    path.write_bytes(PNG + b"x")
    for given in (PNG + b"x", as_data_url(PNG + b"x"), path):
        with pytest.raises(InvalidRequestError, match="at most"):
            Image(given)


def test_a_file_that_grows_is_not_read_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file larger than its size said is refused, and read no further than that takes."""
    path = tmp_path / "grown.png"
    path.write_bytes(PNG)
    status = os.stat(path)
    path.write_bytes(PNG * 100)
    monkeypatch.setattr(content, "_MOST_BYTES", len(PNG))
    monkeypatch.setattr(content.os, "stat", lambda path: status)
    with pytest.raises(InvalidRequestError, match="at most"):
        Image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe, which nobody may ever write to, is refused at once."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InvalidRequestError, match="it is no file"):
        Image(path)


@pytest.mark.parametrize(
    "text", [f"{SECRET}\n{SECRET}", SECRET * 100, "x" * 513, base64.b64encode(PNG * 100).decode()]
)
def test_a_text_that_is_no_path_is_not_shown(text: str) -> None:
    """What may be a prompt or an image's base64 is told by its length only."""
    with pytest.raises(InvalidRequestError, match=f"str of {len(text)} characters") as caught:
        Image(text)
    assert text[:12] not in str(caught.value)


@pytest.mark.parametrize("kind", [Image, Document])
@pytest.mark.parametrize("data", [PNG, b"\xff\xd8\xff", b"GIF89a", b"RIFF1234WEBP", b"%PDF-1.7"])
def test_base64_is_no_path(kind: Any, data: bytes) -> None:
    """However short it is, it is told by what it begins with, and not shown."""
    text = base64.b64encode(data).decode()
    with pytest.raises(InvalidRequestError, match="base64 goes as a data: URL") as caught:
        kind(text)
    assert text[:8] not in str(caught.value)


@pytest.mark.parametrize("name", [5, b"a.pdf"])
def test_the_name_of_a_document_is_text(name: Any) -> None:
    """Another type is refused where the document is made."""
    with pytest.raises(InvalidRequestError, match="name must be text or None"):
        Document(PDF, name=name)


def test_neither_bytes_nor_url_are_shown() -> None:
    """The repr of an image or a document holds neither its bytes, its URL nor its name."""
    for made in (Image(PNG), Image(f"https://x/?{SECRET}"), Document(PDF, name="n")):
        assert "pixels" not in repr(made)
        assert SECRET not in repr(made)


def test_values_are_equal_and_can_be_pickled() -> None:
    """They are values: equal by what they hold, hashable, and the same after a pickle."""
    image, document = Image(PNG, detail="low"), Document(PDF, name="n")
    assert (image, document) == (Image(PNG, detail="low"), Document(PDF, name="n"))
    assert pickle.loads(pickle.dumps([image, document])) == [image, document]
    assert len({image, Image(PNG, detail="low")}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of text only")
def test_a_file_whose_name_is_no_text_can_be_sent(tmp_path: Path) -> None:
    """What of its name is no UTF-8 is replaced, since no request takes it."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.pdf"))
    path.write_bytes(PDF)
    assert Document(path).title == "\ufffd.pdf"
