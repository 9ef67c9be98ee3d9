"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations


def visible(text: str, keep: str = "") -> str:
    """A text with its control characters written as escapes, those in ``keep`` left as they are."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
