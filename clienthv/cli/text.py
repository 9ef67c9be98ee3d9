"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations

from clienthv.report.text import visible

__all__ = ["visible"]
