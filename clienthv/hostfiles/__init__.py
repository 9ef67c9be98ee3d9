"""The only room that edits configuration files of the host; what they were is kept, to the byte.

``fixes`` says what would be done for an advice, ``making`` does it and undoes it, ``record`` holds what was, ``files``
reads and replaces one file, ``parameters`` edits what boot loaders read. Nothing here asks or prints.
"""

from __future__ import annotations

from clienthv.hostfiles.fixes import Fix, of
from clienthv.hostfiles.making import make, shown, undo
from clienthv.hostfiles.record import Entry, Record, held, read

__all__ = ["Entry", "Fix", "Record", "held", "make", "of", "read", "shown", "undo"]
