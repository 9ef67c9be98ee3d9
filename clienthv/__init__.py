"""clienthv: the best way to give each device to a desktop VM on this PC, with reasons. See ``clienthv.api``."""

__version__ = "0.1.0"
