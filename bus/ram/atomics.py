"""Words that several CPUs change: locks, PENDING and SCHED bits, shared reference counts.

The one exception to "each byte has one writer". x86's LOCK prefix is a byte-range file lock here:
Python has no atomic operation on shared memory, and this lock is freed by the operating system
when its holder dies. Which word means what: ``nodes.cpu.kernel.words``.
"""

from __future__ import annotations

import fcntl


class Atomics:
    """Words that more than one process changes, each change under a byte-range file lock.

    The operating system frees the lock when its holder dies; the *word* stays as it was, as a
    spinlock of a dead CPU stays held. Without a file (simulation) there is one process only."""

    def __init__(self, words: memoryview, fd: int | None, base: int) -> None:
        self._words = words
        self._fd = fd
        self._base = base

    def load(self, word: int) -> int:
        value: int = self._words[word]
        return value

    def store(self, word: int, value: int) -> None:
        """Store, for the one who holds the word (releasing a lock). Not a plain store: it could
        fall between another process's load and store of the same word, and be lost."""
        self._lock(word)
        self._words[word] = value
        self._unlock(word)

    def test_and_set(self, word: int, bits: int = 1) -> bool:
        """Set ``bits``; True if one of them was set before (nothing was gained then). If all of
        them were, nothing is stored: see ``release``."""
        self._lock(word)
        old: int = self._words[word]
        if old & bits != bits:
            self._words[word] = old | bits
        self._unlock(word)
        return bool(old & bits)

    def release(self, word: int, value: int = 0) -> None:
        """Clear a word that is only ever taken by ``test_and_set`` of one bit, for its holder; or
        store what the holder has to say in the other bits.

        A plain store is enough here: whoever looks at the word meanwhile finds it taken and stores
        nothing, so there is no store that this one could be lost to."""
        self._words[word] = value

    def cmpxchg(self, word: int, expected: int, value: int) -> int:
        """Store ``value`` if the word is ``expected``; return what it was."""
        self._lock(word)
        old: int = self._words[word]
        if old == expected:
            self._words[word] = value
        self._unlock(word)
        return old

    def add(self, word: int, amount: int) -> int:
        """Add (modulo 2**64) and return the new value."""
        self._lock(word)
        value: int = (self._words[word] + amount) & 0xFFFF_FFFF_FFFF_FFFF
        self._words[word] = value
        self._unlock(word)
        return value

    def clear_bits(self, word: int, bits: int) -> int:
        """Clear ``bits`` and return the old value."""
        self._lock(word)
        old: int = self._words[word]
        self._words[word] = old & ~bits
        self._unlock(word)
        return old

    def _lock(self, word: int) -> None:
        if self._fd is not None:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 8, self._base + word * 8)

    def _unlock(self, word: int) -> None:
        if self._fd is not None:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 8, self._base + word * 8)
