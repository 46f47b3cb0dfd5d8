"""Input beyond text, as values: images and documents, read and checked where they are made."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import Any

import attrs

from ._values import Value
from .errors import InvalidRequestError

__all__ = ["Document", "Image", "Source"]

_MOST_BYTES = 50 * 1024 * 1024
# Longer than a path that people write, and shorter than an image.
_MOST_PATH = 512
_PDF = "application/pdf"
# How the base64 of PDF, GIF, WebP, PNG and JPEG begins; a path may begin so, too.
_BASE64_BEGINS = ("JVBERi", "R0lGOD", "UklGR", "iVBORw0KGg", "/9j/")
# A PDF may begin with other bytes; readers look this far (ISO 32000-1, annex H.3.4.1).
_PDF_SEARCH = 1024


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Source(Value):
    """Where the bytes of an image or a document are: here, or at a URL that the vendor reads.

    Attributes:
        url: The URL; None where the bytes are here.
        data: The bytes; None where the vendor reads them.
        media_type: What they are, as ``image/png``; None where only the vendor will see.
        name: The file's name; None where there is none.
    """

    url: str | None = attrs.field(default=None, repr=False)
    data: bytes | None = attrs.field(default=None, repr=False)
    media_type: str | None = None
    name: str | None = attrs.field(default=None, repr=False)

    @property
    def base64(self) -> str:
        """The bytes as base64 text."""
        return base64.b64encode(self.data or b"").decode()

    @property
    def data_url(self) -> str:
        """The URL, or a ``data:`` URL of the bytes (RFC 2397)."""
        return self.url or f"data:{self.media_type};base64,{self.base64}"


def _image_source(given: Any) -> Source:
    source = _source(given, "The image")
    if source.data is None:
        return source
    media_type = _image_type(source.data)
    if media_type is None:
        raise InvalidRequestError(
            f"The image{_named(source)} is no PNG, JPEG, GIF or WebP image, which is what the "
            "vendors take."
        )
    return attrs.evolve(source, media_type=media_type)


def _document_source(given: Any) -> Source:
    source = _source(given, "The document")
    if source.data is None:
        return source
    if b"%PDF-" not in source.data[:_PDF_SEARCH]:
        raise InvalidRequestError(f"The document{_named(source)} is no PDF.")
    return attrs.evolve(source, media_type=_PDF)


def _image_type(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _source(given: Any, what: str) -> Source:
    if isinstance(given, Source):
        return given
    if isinstance(given, (bytes, bytearray, memoryview)):
        return _checked(Source(data=bytes(given)), what)
    # Lowered whole, a data: URL of many megabytes would be copied.
    scheme = given[:8].lower() if isinstance(given, str) else ""
    if scheme.startswith(("http://", "https://")):
        return Source(url=given)
    if scheme.startswith("data:"):
        return _checked(Source(data=_from_data_url(given, what)), what)
    if isinstance(given, (str, os.PathLike)) and given:
        return _checked(_from_file(given, what), what)
    found = type(given).__name__ if given else repr(given)
    raise InvalidRequestError(f"{what} must be a path, bytes or a URL, not {found}.")


def _from_data_url(url: str, what: str) -> bytes:
    head, comma, text = url.partition(",")
    try:
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError(f"{what} is a data: URL without valid base64.") from None


def _from_file(given: str | os.PathLike[Any], what: str) -> Source:
    path = os.fspath(given)
    # A text that is no path may be a prompt, or an image's base64, and is not to be shown.
    if isinstance(path, bytes) or len(path) > _MOST_PATH or "\n" in path:
        raise _no_path(path, what)
    try:
        status = os.stat(path)
        # A pipe or a device may never end.
        regular = stat.S_ISREG(status.st_mode)
        if regular and status.st_size <= _MOST_BYTES:
            with open(path, "rb") as file:
                # What of a name is no text no request takes.
                name = os.fsencode(os.path.basename(path)).decode("utf-8", "replace")
                # One more than may be, since it may have grown.
                return Source(data=file.read(_MOST_BYTES + 1), name=name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path"
    else:
        if regular:
            raise _too_large(status.st_size, f"{what} {os.path.basename(path)!r}")
        reason = "it is no file"
    if path.startswith(_BASE64_BEGINS):
        raise _no_path(path, what)
    raise InvalidRequestError(f"{what} {path!r} cannot be read: {reason}.")


def _no_path(given: str | bytes, what: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{what} is {type(given).__name__} of {len(given)} characters, which is no path; "
        "base64 goes as a data: URL, or decoded as bytes."
    )


def _checked(source: Source, what: str) -> Source:
    size = len(source.data or b"")
    if not size:
        raise InvalidRequestError(f"{what}{_named(source)} is empty.")
    if size > _MOST_BYTES:
        raise _too_large(size, what + _named(source))
    return source


def _too_large(size: int, what: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{what} has {size / 1e6:.1f} MB; vendors take at most {_MOST_BYTES >> 20} MiB a request."
    )


def _named(source: Source) -> str:
    return f" {source.name!r}" if source.name else ""


def _check_detail(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value not in (None, "auto", "low", "high", "original"):
        raise InvalidRequestError(
            f'detail must be "auto", "low", "high", "original" or None, not {value!r}.'
        )


def _check_name(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"name must be text or None, not {type(value).__name__}.")


@attrs.frozen(eq=False, repr=False)
class Image(Value):
    """An image in a prompt: PNG, JPEG, GIF or WebP.

    Args:
        source: A path, the bytes, or a URL (``https:`` for the vendor to read, or ``data:``). A
            file is read when the image is made.
        detail: How closely OpenAI looks: ``"auto"``, ``"low"``, ``"high"`` or ``"original"``; None
            leaves it to OpenAI. Claude knows no such choice.

    Raises:
        InvalidRequestError: It cannot be read, is empty, no image, or too large.
    """

    source: Source = attrs.field(converter=_image_source)
    detail: str | None = attrs.field(default=None, kw_only=True, validator=_check_detail)


@attrs.frozen(eq=False, repr=False)
class Document(Value):
    """A PDF in a prompt.

    Args:
        source: A path, the bytes, or a URL (``https:`` for the vendor to read, or ``data:``). A
            file is read when the document is made.
        name: The name that the model sees; None means the file's, if any.

    Raises:
        InvalidRequestError: It cannot be read, is empty, no PDF, or too large.
    """

    source: Source = attrs.field(converter=_document_source)
    name: str | None = attrs.field(default=None, kw_only=True, repr=False, validator=_check_name)

    @property
    def title(self) -> str:
        """The name that the model sees."""
        return self.name or self.source.name or "document.pdf"
