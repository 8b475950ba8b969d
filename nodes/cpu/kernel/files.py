"""The write path into the emulated /proc and /sys: who takes what is written to which file.

A subsystem registers its files here::

    @store("/proc/irq/{irq}/smp_affinity")
    def write_smp_affinity(cpu, groups, text): ...

``groups`` has what stood for the names in braces, ``text`` is what one write(2) brought (with the
newline that echo adds). The function is a context of a task on the boot CPU; it returns 0 or a
negative errno. Which files exist, writable or not, is what ``kernel.procfs`` can show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from errno import EACCES, EINVAL, EIO, EISDIR, ENOENT
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: A number with more digits overflows every type (and Python's own limit is near 4300).
DIGITS_MAX = 64

Store = Callable[["Cpu", dict[str, str], str], Context]
STORES: dict[str, Store] = {}
_PATTERNS: dict[str, re.Pattern[str]] = {}


def store(pattern: str) -> Callable[[Store], Store]:
    """Register the store function of a file, or of one in each directory of a kind."""

    def register(function: Store) -> Store:
        assert pattern not in STORES
        STORES[pattern] = function
        parts = re.split(r"\{(\w+)\}", pattern)
        names = [f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)]
        _PATTERNS[pattern] = re.compile("".join(names))
        return function

    return register


def _find(path: str) -> tuple[Store, dict[str, str]] | None:
    for pattern, expression in _PATTERNS.items():
        match = expression.fullmatch(path)
        if match is not None:
            return STORES[pattern], match.groupdict()
    return None


def open_for_writing(path: str, files: Sequence[str]) -> int:
    """open(2) with O_WRONLY | O_CREAT | O_TRUNC, as a shell's ``>`` has it: 0 or a negative errno.
    ``files`` are all that exist.

    A name that /proc does not know is not found; in /sys nothing can be created. A file without a
    store function refuses in /sys and /proc/sys, where modes bind root too; elsewhere root may
    open it and the write fails."""
    if path in files:
        refuses = path.startswith(("/sys/", "/proc/sys/")) and _find(path) is None
        return -EACCES if refuses else 0
    below = path.rstrip("/") + "/"
    if any(name.startswith(below) for name in files):
        return -EISDIR
    folder = path.rsplit("/", 1)[0] + "/"
    inside = folder.startswith("/sys/") and any(name.startswith(folder) for name in files)
    return -EACCES if inside else -ENOENT


def write(cpu: Cpu, path: str, text: str) -> Context:
    """write(2) to a file that ``open_for_writing`` has opened; 0 or a negative errno."""
    found = _find(path)
    if found is None:
        return -EIO if cpu.params.proc_without_write == "EIO" else -EINVAL
    function, groups = found
    error: int = yield from function(cpu, groups, text)
    return error


def kstrtoint(text: str) -> int | None:
    """A whole number in C's notation, with at most a newline behind it; None if it is none."""
    word = text.removesuffix("\n")
    match = re.fullmatch(r"([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", word)
    if match is None or len(match[2]) > DIGITS_MAX:
        return None
    digits = match[2]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    value = int(digits, base)
    return -value if match[1] == "-" else value
