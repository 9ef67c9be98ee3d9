"""Lets ``python -m clienthv`` work."""

from clienthv.cli import main

main()
