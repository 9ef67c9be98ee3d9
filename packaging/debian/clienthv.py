#!/usr/bin/python3
"""The command, as the console script of the wheel is."""

from clienthv.__main__ import main

main()
