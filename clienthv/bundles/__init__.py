"""Bundles: one file that carries a VM to another PC (docs/reference/bundle.md). Nothing here knows libvirt.

``write_file`` makes one; ``open_bundle`` reads what is in one, before ``Reader.extract`` takes it apart.
"""

from __future__ import annotations

from clienthv.bundles.progress import Progress
from clienthv.bundles.reading import Reader, open_bundle, verify
from clienthv.bundles.writing import DiskPart, Parts, write, write_file

__all__ = ["DiskPart", "Parts", "Progress", "Reader", "open_bundle", "verify", "write", "write_file"]
