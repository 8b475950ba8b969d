"""A machine's RAM: one memory-mapped file that all its nodes share, each byte with one writer.

The file is laid out once, from the list of nodes (``Layout``); every section is aligned to 4 KiB::

    header      magic, boot time by both clocks, for each node its incarnation, pid and state
    pages       one page of counters for each node (64-bit words, common part first)
    recorders   one flight-recorder ring for each node
    logs        one kernel-log ring for each CPU
    atomics     words that several CPUs change: locks, PENDING and SCHED bits
    csd         one record ring for each ordered pair of CPUs
    handover    packet buffers of each CPU for skbs that it hands to another
    taps        one packet ring for each CPU, and one for the LAN
    iommu       for each NIC the windows its driver mapped
    last        the boot CPU's last snapshot of its tables, for when it is dead
    dma         descriptor rings and packet buffers, handed out by the kernel

Whatever two processes may look at at the same time is a naturally aligned 32- or 64-bit word,
read and written through a cast ``memoryview`` (a single load or store); the payload is always
stored before the word that publishes it. ``Atomics`` are the one exception to "one writer".

Physical addresses of the emulated machine are offsets in this file.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

PAGE_BYTES = 16384
RECORD_WORDS = 4
RECORDS = 4096
LOG_LINES = 512
LOG_LINE_BYTES = 256
ATOMIC_WORDS = 32768
CSD_RECORDS = 64
CSD_RECORD_WORDS = 10
HANDOVER_BUFFERS = 128
BUFFER_BYTES = 10240  # a jumbo frame
TAP_SLOTS = 1024
TAP_SLOT_BYTES = 2048
IOMMU_WINDOWS = 128
#: Looks at a table that changes before a reader goes on with what it knows.
IOMMU_LOOKS = 100
HEADER_BYTES = 65536
LAST_BYTES = 65536 + 4096
MAGIC = 0x31304D41524842  # "BHRAM01"

_HEADER_NODE_WORD = 64
_HEADER_NODE_WORDS = 8


class Layout(NamedTuple):
    """Where each section begins. ``nodes`` in a fixed order; CPUs are named cpu0, cpu1, ..."""

    nodes: tuple[str, ...]
    cpus: int
    nics: int
    dma_bytes: int

    @property
    def pages(self) -> int:
        return HEADER_BYTES

    @property
    def recorders(self) -> int:
        return self.pages + len(self.nodes) * PAGE_BYTES

    @property
    def logs(self) -> int:
        return self.recorders + len(self.nodes) * _RECORDER_BYTES

    @property
    def atomics(self) -> int:
        return self.logs + self.cpus * _LOG_BYTES

    @property
    def csd(self) -> int:
        return self.atomics + ATOMIC_WORDS * 8

    @property
    def handover(self) -> int:
        return self.csd + self.cpus * self.cpus * _CSD_BYTES

    @property
    def taps(self) -> int:
        return self.handover + self.cpus * _HANDOVER_BYTES

    @property
    def iommu(self) -> int:
        return self.taps + (self.cpus + 1) * _TAP_BYTES

    @property
    def last(self) -> int:
        return self.iommu + self.nics * _IOMMU_BYTES

    @property
    def dma(self) -> int:
        return self.last + LAST_BYTES

    @property
    def total_bytes(self) -> int:
        return self.dma + self.dma_bytes


def _whole_pages(size_bytes: int) -> int:
    return (size_bytes + 4095) // 4096 * 4096


_RECORDER_BYTES = _whole_pages(64 + RECORDS * RECORD_WORDS * 8)
_LOG_BYTES = _whole_pages(64 + LOG_LINES * LOG_LINE_BYTES)
_CSD_BYTES = _whole_pages(128 + CSD_RECORDS * CSD_RECORD_WORDS * 8)
_HANDOVER_BYTES = _whole_pages(HANDOVER_BUFFERS * 8) + HANDOVER_BUFFERS * BUFFER_BYTES
_TAP_BYTES = _whole_pages(64) + TAP_SLOTS * TAP_SLOT_BYTES
_IOMMU_BYTES = _whole_pages(64 + IOMMU_WINDOWS * 32)


class Field(NamedTuple):
    """One named run of 64-bit words in a page of counters."""

    name: str
    doc: str
    words: int = 1


class Schema:
    """Names of the words in a page. The common part is the same in every node's page."""

    COMMON = (
        Field("seq", "sequence word of multi-word state: odd while it changes"),
        Field("incarnation", "which life of this node wrote the page"),
        Field("state", "0 never started, 1 starting, 2 running, 3 ended by itself"),
        Field("started_ns", "clock at the start of this incarnation"),
        Field("turns", "turns taken"),
        Field("wakeups", "times the process blocked and was woken"),
        Field("msgs_in", "messages taken from the bus"),
        Field("msgs_out", "messages handed to the bus"),
        Field("send_full", "messages dropped: the peer's queue was full"),
        Field("send_dead", "messages dropped: the peer was dead"),
        Field("stale", "messages dropped: meant for or sent by an earlier incarnation"),
        Field("rejected", "messages dropped: they did not fit the vocabulary"),
        Field("errors", "exceptions that ended a turn (a fault of ours)"),
        Field("control_ns", "time spent answering control requests"),
        Field("links_up", "bit n: node number n can be reached (process runtime)", 2),
    )

    def __init__(self, fields: Iterable[Field]) -> None:
        self.fields: tuple[Field, ...] = (*self.COMMON, *fields)
        self._at: dict[str, tuple[int, int]] = {}
        at = 0
        for field in self.fields:
            if field.name in self._at:
                raise ValueError(f"field {field.name} twice in one page")
            self._at[field.name] = (at, field.words)
            at += field.words
        self.words = at
        if at * 8 > PAGE_BYTES:
            raise ValueError(f"page of {at} words is larger than {PAGE_BYTES} bytes")

    def index(self, name: str) -> int:
        """Index of the first word of ``name``."""
        return self._at[name][0]

    def span(self, name: str) -> slice:
        """All words of ``name``."""
        at, words = self._at[name]
        return slice(at, at + words)

    def __contains__(self, name: str) -> bool:
        return name in self._at


COMMON_SCHEMA = Schema(())


class Page:
    """A node's page of counters: 64-bit words with names."""

    def __init__(self, words: memoryview, schema: Schema) -> None:
        self.words = words
        self.schema = schema

    def __getitem__(self, name: str) -> int:
        value: int = self.words[self.schema.index(name)]
        return value

    def __setitem__(self, name: str, value: int) -> None:
        self.words[self.schema.index(name)] = value

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter; only the page's own node may."""
        self.words[self.schema.index(name)] += amount

    def run(self, name: str) -> list[int]:
        """All words of a field."""
        return self.words[self.schema.span(name)].tolist()

    def text(self, name: str) -> str:
        """A field that holds NUL-padded text."""
        return bytes(self.words[self.schema.span(name)]).rstrip(b"\0").decode("utf-8", "replace")

    def set_text(self, name: str, text: str) -> None:
        span = self.schema.span(name)
        size = (span.stop - span.start) * 8
        data = text.encode()[:size].ljust(size, b"\0")
        self.words[span] = memoryview(data).cast("Q")

    def as_dict(self) -> dict[str, int | list[int]]:
        """All fields by name; a field of several words is a list."""
        return {
            f.name: self[f.name] if f.words == 1 else self.run(f.name) for f in self.schema.fields
        }


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
        """Store ``data`` (at most 2 KiB) in a free buffer; its number, or None if none is free."""
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


class LogRing:
    """Kernel log of one CPU: the last 512 lines with their times; readable after its death."""

    def __init__(self, words: memoryview, data: memoryview) -> None:
        self._words = words
        self._data = data

    def append(self, time_ns: int, level: int, text: str) -> None:
        count: int = self._words[0]
        at = count % LOG_LINES * LOG_LINE_BYTES
        body = text.encode()[: LOG_LINE_BYTES - 24]
        self._data[at : at + 24] = (
            time_ns.to_bytes(8, "little")
            + level.to_bytes(8, "little")
            + len(body).to_bytes(8, "little")
        )
        self._data[at + 24 : at + 24 + len(body)] = body
        self._words[0] = count + 1

    @property
    def count(self) -> int:
        """Lines ever written."""
        value: int = self._words[0]
        return value

    def lines(self, since: int = 0) -> list[tuple[int, int, str]]:
        """(time_ns, level, text) of the lines from number ``since`` on that are still there."""
        count = self.count
        out = []
        for number in range(max(since, count - LOG_LINES + 1), count):
            at = number % LOG_LINES * LOG_LINE_BYTES
            head = bytes(self._data[at : at + 24])
            length = min(int.from_bytes(head[16:24], "little"), LOG_LINE_BYTES - 24)
            text = bytes(self._data[at + 24 : at + 24 + length]).decode("utf-8", "replace")
            if self.count - number >= LOG_LINES:
                continue  # its slot is being written again
            out.append(
                (int.from_bytes(head[0:8], "little"), int.from_bytes(head[8:16], "little"), text)
            )
        return out


class TapPacket(NamedTuple):
    """A frame as a tap saw it. ``length`` is the frame's, ``data`` may be shorter (snaplen)."""

    time_ns: int
    ifindex: int
    outgoing: bool
    length: int
    sessions: int  # bit n: session n wanted it
    data: bytes
    other_host: bool = False  # unicast, but not to the address of the device that took it


class TapRing:
    """Packet ring of one CPU: overwrites the oldest; a reader sees by the numbers what it lost."""

    def __init__(self, words: memoryview, data: memoryview) -> None:
        self._words = words
        self._data = data

    def append(
        self,
        time_ns: int,
        ifindex: int,
        outgoing: bool,
        sessions: int,
        frame: bytes,
        snaplen: int,
        other_host: bool = False,
    ) -> None:
        count: int = self._words[0]
        at = count % TAP_SLOTS * TAP_SLOT_BYTES
        data = frame[: min(snaplen, TAP_SLOT_BYTES - 32)]
        head = (
            time_ns.to_bytes(8, "little")
            + (ifindex | outgoing << 16 | other_host << 17 | sessions << 32).to_bytes(8, "little")
            + (len(frame) | len(data) << 32).to_bytes(8, "little")
            + count.to_bytes(8, "little")
        )
        self._data[at : at + 32 + len(data)] = head + data
        self._words[0] = count + 1

    @property
    def count(self) -> int:
        """Packets ever written."""
        value: int = self._words[0]
        return value

    def read(self, since: int) -> tuple[list[TapPacket], int, int]:
        """Packets from number ``since`` on: (packets, next number, packets overwritten unread)."""
        count = self.count
        first = max(since, count - TAP_SLOTS + 1)
        lost = first - since
        packets = []
        for number in range(first, count):
            at = number % TAP_SLOTS * TAP_SLOT_BYTES
            slot = bytes(self._data[at : at + TAP_SLOT_BYTES])
            if self.count - number >= TAP_SLOTS or int.from_bytes(slot[24:32], "little") != number:
                lost += 1
                continue
            meta = int.from_bytes(slot[8:16], "little")
            sizes = int.from_bytes(slot[16:24], "little")
            packets.append(
                TapPacket(
                    int.from_bytes(slot[0:8], "little"),
                    meta & 0xFFFF,
                    bool(meta >> 16 & 1),
                    sizes & 0xFFFF_FFFF,
                    meta >> 32,
                    slot[32 : 32 + (sizes >> 32)],
                    bool(meta >> 17 & 1),
                )
            )
        return packets, count, lost

    # The LAN's ring: which ports are tapped is said here, by who captures.

    @property
    def ports(self) -> int:
        """Bit n: somebody captures at port n."""
        value: int = self._words[1]
        return value

    def claim(self, ports: int, owner: int) -> int | None:
        """Capture at these ports; the claim's number, or None when all are taken. ``owner`` is a
        process: what a dead one left is cleared away by the next that claims."""
        words = self._words
        for number in range(2, 8):
            if words[number] and not _alive(words[number] >> 32):
                words[number] = 0
        for number in range(2, 8):
            if not words[number]:
                words[number] = owner << 32 | ports
                self._publish_ports()
                return number
        return None

    def release(self, claim: int) -> None:
        self._words[claim] = 0
        self._publish_ports()

    def _publish_ports(self) -> None:
        ports = 0
        for number in range(2, 8):
            ports |= self._words[number] & 0xFFFF_FFFF
        self._words[1] = ports


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Window(NamedTuple):
    """A piece of memory that a device may reach: bus address, size, writable."""

    address: int
    size: int
    writable: bool


class Iommu:
    """The windows that the driver of one NIC mapped; the kernel writes, the NIC reads.

    ``generation`` (sequence word) tells the NIC when to read the table again."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    @property
    def generation(self) -> int:
        value: int = self._words[0]
        return value

    def consistent(self) -> list[Window] | None:
        """All mapped windows as they were at one moment; None while the table is being changed
        (for good, if its writer died there)."""
        for _ in range(IOMMU_LOOKS):
            before = self.generation
            windows = self.windows()
            if before % 2 == 0 and self.generation == before:
                return windows
        return None

    def windows(self) -> list[Window]:
        """All mapped windows, for the one who changes the table."""
        count = min(self._words[1], IOMMU_WINDOWS)
        flat = self._words[8 : 8 + count * 4].tolist()
        return [
            Window(flat[i], flat[i + 1], bool(flat[i + 2]))
            for i in range(0, count * 4, 4)
            if flat[i + 1]
        ]

    def map(self, address: int, size: int, writable: bool = True) -> None:
        """Add a window. ``MemoryError`` when the table is full."""
        words = self._words
        count: int = words[1]
        slot = next((i for i in range(count) if not words[8 + i * 4 + 1]), count)
        if slot >= IOMMU_WINDOWS:
            raise MemoryError("IOMMU table is full")
        words[0] += 1
        at = 8 + slot * 4
        words[at], words[at + 1], words[at + 2] = address, size, int(writable)
        words[1] = max(count, slot + 1)
        words[0] += 1

    def unmap(self, address: int) -> None:
        """Remove the window that begins at ``address``; KeyError if there is none."""
        words = self._words
        for i in range(words[1]):
            at = 8 + i * 4
            if words[at + 1] and words[at] == address:
                words[0] += 1
                words[at + 1] = 0
                words[0] += 1
                return
        raise KeyError(f"no IOMMU window at {address:#x}")


class LastWords:
    """A value that its one writer replaces now and then and that outlives it: a sequence word, odd
    while the value changes, a length, the bytes."""

    def __init__(self, words: memoryview, data: memoryview) -> None:
        self._words = words
        self._data = data

    def store(self, data: bytes) -> None:
        """Replace the value; ValueError if it does not fit."""
        if len(data) > len(self._data):
            raise ValueError(f"{len(data)} bytes are too many for last words")
        self._words[0] += 1
        self._words[1] = len(data)
        self._data[: len(data)] = data
        self._words[0] += 1

    def load(self) -> bytes | None:
        """The value; None if none was stored, or if its writer died while it changed it."""
        for _ in range(100):
            before = self._words[0]
            data = bytes(self._data[: self._words[1]])
            if before % 2 == 0 and self._words[0] == before:
                return data if before else None
        return None


class Ram:
    """The mapped file (or, in the simulation, plain memory) and its sections."""

    def __init__(self, layout: Layout, memory: mmap.mmap, fd: int | None) -> None:
        self.layout = layout
        self._memory = memory
        self._fd = fd
        self.bytes = memoryview(memory)
        self.words32 = self.bytes.cast("I")
        self.words64 = self.bytes.cast("Q")
        self._number = {name: i for i, name in enumerate(layout.nodes)}
        self._csd_rings: dict[tuple[int, int], CsdRing] = {}
        self._handovers: dict[int, HandoverPool] = {}
        self.atomics = Atomics(self._section(layout.atomics, ATOMIC_WORDS), fd, layout.atomics)

    # -- making and opening

    @classmethod
    def anonymous(cls, layout: Layout) -> Ram:
        """Memory of this process only, for the simulation and unit tests."""
        ram = cls(layout, mmap.mmap(-1, layout.total_bytes), None)
        ram._format()
        return ram

    @classmethod
    def create(cls, path: str, layout: Layout) -> Ram:
        """Make the file (mode 0600) at ``path``; FileExistsError if there is one."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(fd, layout.total_bytes)
        ram = cls(layout, mmap.mmap(fd, layout.total_bytes), fd)
        ram._format()
        return ram

    @classmethod
    def open(cls, path: str, layout: Layout) -> Ram:
        """Map an existing file; ValueError if it is not the RAM of such a machine."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(fd).st_size != layout.total_bytes:
            os.close(fd)
            raise ValueError(f"{path} has not the size of this machine's RAM")
        ram = cls(layout, mmap.mmap(fd, layout.total_bytes), fd)
        if ram.words64[0] != MAGIC:
            raise ValueError(f"{path} is not the RAM of a bottomhalf machine")
        return ram

    def close(self) -> None:
        """Drop the mapping; views that are still held keep the memory alive."""
        for view in (self.words64, self.words32, self.bytes):
            view.release()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _format(self) -> None:
        self.words64[1] = 0
        self.words64[2] = len(self.layout.nodes)
        self.words64[3] = 0
        self.words64[0] = MAGIC

    # -- header

    @property
    def boot_ns(self) -> int:
        """Clock at the machine's power-on: zero of the kernel's time."""
        value: int = self.words64[1]
        return value

    @boot_ns.setter
    def boot_ns(self, value: int) -> None:
        self.words64[1] = value

    @property
    def epoch_ns(self) -> int:
        """What the machine's clock zero is in the time of day. As on a PC a battery clock is read
        at power-on; that of the simulation says 1970-01-01."""
        value: int = self.words64[3]
        return value - self.boot_ns

    def power_on(self, clock_ns: int, time_of_day_ns: int) -> None:
        """The machine's clock and the time of day at the same moment."""
        self.words64[1] = clock_ns
        self.words64[3] = time_of_day_ns

    def number(self, node: str) -> int:
        return self._number[node]

    def _node_word(self, node: str, word: int) -> int:
        return _HEADER_NODE_WORD + self._number[node] * _HEADER_NODE_WORDS + word

    def incarnation_word(self, node: str) -> int:
        """Place of ``incarnation`` in ``words64``, for who looks at each message."""
        return self._node_word(node, 0)

    def incarnation(self, node: str) -> int:
        """Which life of ``node`` is the present one: 1, 2, ...; 0 before the first."""
        value: int = self.words64[self._node_word(node, 0)]
        return value

    def set_incarnation(self, node: str, incarnation: int) -> None:
        self.words64[self._node_word(node, 0)] = incarnation

    def pid(self, node: str) -> int:
        value: int = self.words64[self._node_word(node, 1)]
        return value

    def set_pid(self, node: str, pid: int) -> None:
        self.words64[self._node_word(node, 1)] = pid

    # -- sections

    def _section(self, offset: int, words: int) -> memoryview:
        return self.words64[offset // 8 : offset // 8 + words]

    def page(self, node: str, schema: Schema = COMMON_SCHEMA) -> Page:
        """The page of counters of ``node``."""
        at = self.layout.pages + self._number[node] * PAGE_BYTES
        return Page(self._section(at, PAGE_BYTES // 8), schema)

    def clear_page(self, node: str) -> None:
        """Zero the page: a new incarnation begins to count."""
        at = self.layout.pages + self._number[node] * PAGE_BYTES
        self.bytes[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)

    def recorder_words(self, node: str) -> memoryview:
        at = self.layout.recorders + self._number[node] * _RECORDER_BYTES
        return self._section(at, _RECORDER_BYTES // 8)

    def log(self, cpu: int) -> LogRing:
        """Kernel log ring of CPU number ``cpu``."""
        at = self.layout.logs + cpu * _LOG_BYTES
        return LogRing(self._section(at, 8), self.bytes[at + 64 : at + _LOG_BYTES])

    def csd_ring(self, source: int, target: int) -> CsdRing:
        """Records from CPU ``source`` to CPU ``target``."""
        ring = self._csd_rings.get((source, target))
        if ring is None:
            at = self.layout.csd + (source * self.layout.cpus + target) * _CSD_BYTES
            ring = CsdRing(self._section(at, _CSD_BYTES // 8))
            self._csd_rings[source, target] = ring
        return ring

    def handover(self, cpu: int) -> HandoverPool:
        """Buffers that CPU ``cpu`` fills for others."""
        pool = self._handovers.get(cpu)
        if pool is None:
            at = self.layout.handover + cpu * _HANDOVER_BYTES
            data = at + _whole_pages(HANDOVER_BUFFERS * 8)
            pool = self._handovers[cpu] = HandoverPool(
                self._section(at, HANDOVER_BUFFERS),
                self.bytes[data : data + HANDOVER_BUFFERS * BUFFER_BYTES],
            )
        return pool

    def tap(self, cpu: int) -> TapRing:
        """Packet ring of CPU ``cpu``; one further than the CPUs go: the LAN's."""
        at = self.layout.taps + cpu * _TAP_BYTES
        return TapRing(self._section(at, 8), self.bytes[at + _whole_pages(64) : at + _TAP_BYTES])

    def iommu(self, nic: int) -> Iommu:
        """Mapped windows of NIC number ``nic``."""
        at = self.layout.iommu + nic * _IOMMU_BYTES
        return Iommu(self._section(at, _IOMMU_BYTES // 8))

    def last_words(self) -> LastWords:
        """The boot CPU's last snapshot."""
        at = self.layout.last
        return LastWords(self._section(at, 8), self.bytes[at + 64 : at + LAST_BYTES])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.nodes)
