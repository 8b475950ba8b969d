"""What a process tells the operating system about itself: its name, its parent, its timers.

Linux only (``prctl``). ``rename`` makes ``ps``, ``htop`` and ``pkill -f`` find a node by its name:
it sets the thread's name and overwrites the memory that ``/proc/PID/cmdline`` shows, as daemons
such as sendmail have always done; nothing but the standard library is needed. A forked child has
its parent's argument area, so the parent must have been started with a command line that is longer
than any name (the fork server is).
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_TIMERSLACK = 29

#: Fields 48 and 49 of /proc/PID/stat, counted behind the command's closing parenthesis.
_ARG_START, _ARG_END = 45, 46

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Ask for SIGKILL when the parent dies; exit at once if it is dead already."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def exact_timers() -> None:
    """Timer slack of 1 us in place of 50: interrupt moderation counts in microseconds."""
    _libc.prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)


def rename(title: str) -> None:
    """Show this process as ``title``; the thread name is cut to 15 bytes by the kernel."""
    name = title.encode()
    _libc.prctl(_PR_SET_NAME, name[:15], 0, 0, 0)
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    if 0 < len(name) < end - start:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, name, len(name))
