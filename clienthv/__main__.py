"""The program: the console script, and ``python -m clienthv``."""

import signal

# Nothing is half made while modules are loaded: an interrupt ends the program at once, and without a traceback.
# An interrupt that is ignored (nohup) stays ignored.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from clienthv.cli import main

if __name__ == "__main__":
    main()
