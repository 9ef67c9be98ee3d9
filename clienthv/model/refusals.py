"""Why something that came from a stranger is not taken: an image or a bundle. The codes are stable."""

from __future__ import annotations

from enum import StrEnum, unique

from clienthv.errors import RefusedError


@unique
class Refusal(StrEnum):
    """Each is explained in docs/reference/refusals.md."""

    # images
    FORMAT_UNKNOWN = "format-unknown"
    FORMAT_UNSAFE = "format-unsafe"
    FORMAT_DISAGREES = "format-disagrees"
    BACKING_FILE = "backing-file"
    DATA_FILE = "data-file"
    HOST_PATH = "host-path"
    ABSURD_SIZE = "absurd-size"
    ENCRYPTED = "encrypted"
    CORRUPT = "corrupt"
    TOO_COSTLY = "too-costly"
    NOT_A_FILE = "not-a-file"
    # bundles
    NOT_A_BUNDLE = "not-a-bundle"
    NEWER_BUNDLE = "newer-bundle"
    BAD_MANIFEST = "bad-manifest"
    CUT_SHORT = "cut-short"
    UNEXPECTED_MEMBER = "unexpected-member"
    PATH_ESCAPE = "path-escape"
    LINK = "link"
    DUPLICATE_MEMBER = "duplicate-member"
    WRONG_SIZE = "wrong-size"
    WRONG_CHECKSUM = "wrong-checksum"
    BAD_DEFINITION = "bad-definition"


def refuse(refusal: Refusal, message: str, hint: str | None = None, detail: str | None = None) -> RefusedError:
    """The error of a refusal, to be raised; its reference is ``refused-CODE``."""
    return RefusedError(message, hint=hint, detail=detail, refusal=refusal.value)
