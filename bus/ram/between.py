"""What one CPU gives to another: a record ring for each ordered pair of CPUs, and packet buffers.

Linux hands over pointers (a call_single_data, an skb); CPUs that are processes share no objects,
so the record and the packet's bytes themselves lie here. That something lies here is told by an
IPI, never by these words alone (``nodes.cpu.kernel.smp``, ``nodes.cpu.kernel.net.handover``).
"""

from __future__ import annotations

from collections.abc import Sequence

from bus.ram.layout import BUFFER_BYTES, CSD_RECORD_WORDS, CSD_RECORDS, HANDOVER_BUFFERS


class CsdRing:
    """Bounded ring of records from one CPU to another: single producer, single consumer.

    Words 0..7 belong to the producer: head, then for each slot how often it was taken. Words 8..15
    belong to the consumer: tail, then for each slot how often it was given back. A slot is what
    Linux calls a call_single_data with its lock bit: it is locked while the two differ."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def push(self, record: Sequence[int]) -> bool:
        """Append up to 10 words; False when the ring is full."""
        words = self._words
        head: int = words[0]
        if head - words[8] >= CSD_RECORDS:
            return False
        at = 16 + head % CSD_RECORDS * CSD_RECORD_WORDS
        for i, value in enumerate(record):
            words[at + i] = value
        words[0] = head + 1
        return True

    def pop(self) -> list[int] | None:
        """The oldest record (10 words; those that were not pushed mean nothing), or None."""
        words = self._words
        tail: int = words[8]
        if tail == words[0]:
            return None
        at = 16 + tail % CSD_RECORDS * CSD_RECORD_WORDS
        record: list[int] = words[at : at + CSD_RECORD_WORDS].tolist()
        words[8] = tail + 1
        return record

    def take_slot(self, slot: int) -> int:
        """The producer locks slot 1..3; which use of it this is."""
        words = self._words
        words[slot] += 1
        use: int = words[slot]
        return use

    def slot_use(self, slot: int) -> int:
        """The last use of a slot; 0: none yet."""
        use: int = self._words[slot]
        return use

    def give_back(self, slot: int, use: int) -> None:
        """The consumer unlocks the slot after its ``use``-th use."""
        self._words[8 + slot] = use

    def given_back(self, slot: int) -> int:
        """The last use after which the slot was unlocked."""
        use: int = self._words[8 + slot]
        return use

    def __len__(self) -> int:
        waiting: int = self._words[0] - self._words[8]
        return waiting


class HandoverPool:
    """Packet buffers of one CPU for data it hands to another.

    A busy word for each buffer: its owner sets it when it takes the buffer, whoever took the data
    over clears it. So each word has one writer at a time."""

    def __init__(self, busy: memoryview, data: memoryview) -> None:
        self._busy = busy
        self._data = data
        self._next = 0

    def put(self, data: bytes) -> int | None:
        """Store ``data`` (at most ``BUFFER_BYTES``) in a free buffer; its number, or None if
        all are taken."""
        for _ in range(HANDOVER_BUFFERS):
            number = self._next
            self._next = (number + 1) % HANDOVER_BUFFERS
            if not self._busy[number]:
                self._busy[number] = 1
                at = number * BUFFER_BYTES
                self._data[at : at + len(data)] = data
                return number
        return None

    def take(self, number: int, length: int) -> bytes:
        """Read ``length`` bytes of buffer ``number`` and give the buffer back."""
        at = number * BUFFER_BYTES
        data = bytes(self._data[at : at + length])
        self._busy[number] = 0
        return data

    def in_use(self) -> int:
        return sum(self._busy.tolist())
