"""Read the live PC into a host document, as an ordinary user wherever the kernel allows it."""

from __future__ import annotations

from clienthv.inspect.anonymise import anonymise
from clienthv.inspect.live import read

__all__ = ["anonymise", "read"]
