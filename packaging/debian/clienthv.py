#!/usr/bin/python3
from clienthv.__main__ import main

main()
