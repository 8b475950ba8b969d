"""A driver gone mad: random registers, descriptors, DMA addresses, frames, configuration, time.

A rig is one NIC with a pool of memory that it may use, a window that it may only read, a window
that comes and goes, and forbidden memory between them. An operation is drawn from ``OPERATIONS``:
half of them make sense to the device on purpose, or it would stop listening after the first few.
What must hold:

* no exception, and no turn that never ends (an alarm looks after that);
* nothing outside the windows is written, and no byte of it is ever sent: forbidden memory is filled
  with ``MARK``, which no allowed byte is;
* the device never asks for a wake-up in the past, and each read is answered;
* frames and messages are accounted for to the last one (``nodes.nic.page``);
* after any kind of reset a plain driver sends a frame and receives one, with an interrupt each.

``python -m tests.nodes.nic.fuzz 1000000`` runs a million operations (``make soak``).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from types import FrameType

from bus.messages import EthFrame, LinkState, PeerBack
from nodes.nic.eeprom import make_image
from nodes.nic.page import RX_DROPS, TX_DROPS
from nodes.nic.registers import CSR_BYTES, DECODE, KEYS, TABLE
from nodes.nic.sfp import MODULES
from tests.nodes.nic.rig import MAC, MS, PEER, Rig, frame

EPISODE = 500  # operations between two resets
ALARM_S = 120  # for an episode
POOL_BYTES, READ_ONLY_BYTES, GUEST_BYTES, GAP_BYTES = 1 << 20, 1 << 16, 1 << 16, 1 << 16
QUEUES = (0, 0, 0, 0, 0, 1, 2, 15, 16, 63, 64, 127)
MARK = 0xEE
#: IPv4 with and without its first byte, IPv6, a tag, MAC control, ARP, nothing.
_TYPES = (
    b"\x08\x00\x45", b"\x08\x00", b"\x86\xdd", b"\x81\x00\x00\x05\x08\x00", b"\x88\x08",
    b"\x08\x06", b"",
)  # fmt: skip
_REVIVAL = {
    "AUTOC": 0x7000, "ESDP": 0x2804, "CTRL": 0, "HLREG0": 0x08010403, "MAXFRS": 9732 << 16,
    "FCTRL": 0x700, "VLNCTRL": 0x8100, "GPIE": 0xC0000036, "RXCTRL": 1, "DMATXCTL": 1,
}  # fmt: skip
_NO_MARK = bytes(i if i != MARK else 0 for i in range(256))


class StuckError(AssertionError):
    """An episode took longer than ``ALARM_S``."""


def _alarm(number: int, where: FrameType | None) -> None:
    raise StuckError(f"no end of it within {ALARM_S} s")


class Fuzz(Rig):
    """A NIC and the hands of somebody who does not know what he does."""

    def __init__(self) -> None:
        super().__init__()
        at = (self.dma + 4095) // 4096 * 4096 + GAP_BYTES
        self.pool = at
        self.read_only = self.pool + POOL_BYTES + GAP_BYTES
        self.guest = self.read_only + READ_ONLY_BYTES + GAP_BYTES
        self.end = self.guest + GUEST_BYTES + GAP_BYTES
        total = self.ram.layout.total_bytes
        assert self.end <= total
        self.ram.bytes[self.dma : total] = bytes([MARK]) * (total - self.dma)
        iommu = self.ram.iommu(0)
        iommu.map(self.pool, POOL_BYTES, True)
        iommu.map(self.read_only, READ_ONLY_BYTES, False)
        self._guest_mapped = False
        self._wipe(self.pool, POOL_BYTES)
        self._wipe(self.read_only, READ_ONLY_BYTES)
        self._forbidden = self._sum()
        self.rng = random.Random(0)

    def map(self, size: int, writable: bool = True) -> int:
        """Memory for the plain driver: from the end of the pool, which needs no mapping."""
        self._free -= (size + 4095) // 4096 * 4096
        assert self._free > self.pool
        return self._free

    def _wipe(self, at: int, size: int) -> None:
        self.ram.bytes[at : at + size] = bytes(size)

    def _sum(self) -> int:
        """Of all that the device must not change: its pages and records lie before."""
        ram, spans = self.ram, [
            (self.ram.layout.logs, self.ram.layout.iommu),
            (self.dma, self.pool),
            (self.pool + POOL_BYTES, self.guest),
            (self.guest + GUEST_BYTES, self.ram.layout.total_bytes),
        ]  # fmt: skip
        if not self._guest_mapped:
            spans.append((self.guest, self.guest + GUEST_BYTES))
        total = 0
        for begin, end in spans:
            total = zlib.crc32(ram.bytes[begin:end], total)
        return total

    # -- drawing

    def word(self) -> int:
        """A value that has something to do with bits."""
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            return rng.getrandbits(32)
        if kind == 1:
            return 1 << rng.randrange(32)
        if kind == 2:
            return rng.choice((0, 0xFFFFFFFF, 0xFFFF, 0x80000000))
        if kind == 3:
            return rng.randrange(600)
        if kind == 4:
            return rng.getrandbits(32) & rng.getrandbits(32) & rng.getrandbits(32)
        return self.address() & 0xFFFFFFFF

    def address(self) -> int:
        """Mostly inside a window, at times at its edge, outside, or beyond all memory."""
        rng = self.rng
        kind = rng.randrange(12)
        if kind < 7:
            return self.pool + rng.randrange(POOL_BYTES)
        if kind == 7:
            return self.read_only + rng.randrange(READ_ONLY_BYTES)
        if kind == 8:
            return self.guest + rng.randrange(GUEST_BYTES)
        if kind == 9:
            return rng.choice((self.pool, self.read_only, self.guest)) - rng.randrange(1, 64)
        if kind == 10:
            return self.pool + POOL_BYTES - rng.randrange(1, 2048)
        return rng.choice((0, self.dma, 1 << 40, (1 << 64) - 16, rng.getrandbits(64)))

    # -- operations

    def write_register(self) -> None:
        register = self.rng.choice(TABLE)
        index = self.rng.randrange(register.elements)
        self.write(register.name, self.word(), index)

    def write_bits(self) -> None:
        """As drivers do: change one bit of what is there."""
        register = self.rng.choice(TABLE)
        index = self.rng.randrange(register.elements)
        value = self.read(register.name, index)
        self.write(register.name, value ^ 1 << self.rng.randrange(32), index)

    def anywhere(self) -> None:
        """Any address of any BAR, aligned or not."""
        bar = self.rng.choice((0, 0, 0, 2, 4, 4, 1, 5))
        offset = self.rng.choice((self.rng.randrange(CSR_BYTES + 64), self.rng.randrange(0x2100)))
        if self.rng.random() < 0.5:
            self.read_at(offset, bar)
        else:
            self.write_at(offset, self.word(), bar)

    def read_register(self) -> None:
        self.read_at(self.rng.choice(_OFFSETS))

    def ring(self) -> None:
        """A queue that could work, on memory that may be there."""
        rng, q = self.rng, self.rng.choice(QUEUES)
        kind = rng.choice("RT")
        base = self.address()
        self.write(f"{kind}XDCTL", 0, q)
        self.write(f"{kind}DBAL", base & 0xFFFFFFFF, q)
        self.write(f"{kind}DBAH", base >> 32, q)
        self.write(f"{kind}DLEN", rng.choice((0, 128, 512, 8192, 8192, 1 << 16)), q)
        self.write(f"{kind}DH", 0, q)
        self.write(f"{kind}DT", 0, q)
        if kind == "R":
            self.write("SRRCTL", rng.choice((0x02000402, 0x12000401, 0x402, self.word())), q)
            self.write("RXCTRL", 1)
        else:
            self.write("DMATXCTL", 1)
        self.write(f"{kind}XDCTL", 1 << 25 | rng.choice((0, 0x80120, 1 << 30, self.word())), q)

    def descriptors(self) -> None:
        """Write descriptors of all kinds into a queue's ring, then ring its bell."""
        rng, q = self.rng, self.rng.choice(QUEUES)
        kind = rng.choice("RTTT")
        base = self.device.peek32(KEYS[f"{kind}DBAL"][q])
        base |= self.device.peek32(KEYS[f"{kind}DBAH"][q]) << 32
        tail = self.device.peek32(KEYS[f"{kind}DT"][q])
        count = rng.randrange(1, 12)
        words = self.ram.words64
        for i in range(count):
            at = base + 16 * (tail + i)
            if self.pool <= at and at + 16 <= self.pool + POOL_BYTES:
                words[at // 8] = self.address() if rng.random() < 0.9 else 14 << 9 | 20
                words[at // 8 + 1] = self._descriptor() if kind == "T" else self.address()
        self.write(f"{kind}DT", rng.choice((tail + count, tail + count, self.word())), q)

    def _descriptor(self) -> int:
        """The second word: advanced data, context, legacy, or noise."""
        rng = self.rng
        length = rng.choice((0, 1, 14, 60, 64, 300, 1514, 9000, rng.getrandbits(16)))
        command = rng.getrandbits(8)
        kind = rng.randrange(8)
        if kind > 4:  # what a driver sends most
            return length | 0x2B3 << 20 | length << 46
        if kind < 3:
            data = length | 3 << 20 | (command | 0x20) << 24
            return data | (rng.getrandbits(10) << 4 | length << 14 & 0xFFFFFFFF) << 32
        if kind == 3:
            context = rng.getrandbits(32) & ~0xF00000 | 0x200000 | 1 << 29
            return context | rng.getrandbits(32) << 32
        if kind == 4 and rng.random() < 0.5:  # a context that makes sense, for what comes after
            mss = rng.choice((0, 1, 7, 536, 1460, 9000))
            return 1 << 29 | 2 << 20 | rng.randrange(4) << 10 | (20 << 8 | mss << 16) << 32
        return rng.getrandbits(64) if rng.random() < 0.5 else length | command << 24

    def frames(self, said: list[tuple[str, object]] | None = None) -> list[bytes]:
        return super().frames(self.said if said is None else said)

    def wire_in(self) -> None:
        """Frames of all lengths; some are IP, some tagged, some cut short."""
        rng = self.rng
        frames = []
        for _ in range(rng.randrange(1, 5)):
            size = rng.choice((0, 13, 60, 60, 61, 98, 128, 1514, 1518, 9728, rng.randrange(16000)))
            to = rng.choice((MAC, b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", rng.randbytes(6)))
            kind = rng.choice((*_TYPES, rng.randbytes(2)))
            body = to + PEER + kind + rng.randbytes(64)
            frames.append((body + bytes(size))[:size].translate(_NO_MARK))
        self.give(*(("lan", EthFrame(f)) for f in frames))

    def configure(self) -> None:
        rng = self.rng
        size = rng.choice((1, 2, 4))
        offset = rng.choice((4, 6, 0x44, 0x52, 0x54, 0x60, 0x72, 0xA8, rng.randrange(0x1000)))
        offset -= offset % size
        value = self.word() & (1 << 8 * size) - 1
        if offset == 4 and rng.random() < 0.8:
            value |= 6
        if offset == 0xA8 and rng.random() < 0.9:
            value &= ~0x8000  # a function reset now and then, not all the time
        if offset == 0x44 and rng.random() < 0.7:
            value &= ~3
        self.set_config(offset, value, size)
        self.config(offset, size)

    def switch_on(self) -> None:
        self.set_config(0x44, 0)
        self.enable()

    def revive(self) -> None:
        """What a driver would need to go on: light, a module, everything let in, messages."""
        self.switch_on()
        self.device.link.set_module("da")
        self.give(("lan", PeerBack(1)), ("lan", LinkState(1, 10000)))
        if self.rng.random() < 0.3:
            self.write("CTRL", 1 << 26)
        for name, value in _REVIVAL.items():
            self.write(name, value)
        self.program_msix(4)
        self.write("EIMS_EX", 0xFFFFFFFF, 0)
        self.advance(30 * MS)

    def outside(self) -> None:
        """Light, module, memory that comes and goes."""
        rng, kind = self.rng, self.rng.randrange(4)
        if kind == 0:
            self.give(("lan", LinkState(rng.randrange(2), 10000)))
        elif kind == 1:
            self.device.link.set_module(rng.choice((None, *MODULES)))
            self.give()
        elif kind == 2:
            iommu = self.ram.iommu(0)
            if self._guest_mapped:
                iommu.unmap(self.guest)
                self.ram.bytes[self.guest : self.guest + GUEST_BYTES] = bytes([MARK]) * GUEST_BYTES
            else:
                self._wipe(self.guest, GUEST_BYTES)
                iommu.map(self.guest, GUEST_BYTES, True)
            self._guest_mapped = not self._guest_mapped
            self._forbidden = self._sum()
        else:
            self.give(("lan", PeerBack(rng.randrange(1, 9))))

    def i2c(self) -> None:
        for _ in range(self.rng.randrange(40)):
            self.write("I2CCTL", self.rng.getrandbits(4))
            self.read("I2CCTL")

    def wait(self) -> None:
        self.advance(self.rng.choice((1, 1000, 50_000, MS, 30 * MS)))

    # -- what must hold

    def check(self) -> None:
        """After each operation: what left, and the sums."""
        mark = bytes([MARK]) * 8
        for sent in self.frames():
            assert mark not in sent, "bytes from outside the windows were sent"
        self.said.clear()
        page = self.page

        def total(*names: str) -> int:
            return sum(sum(page.run(name)) for name in names)

        assert total("tx_fetched") == total("tx_frames_out", *TX_DROPS)
        assert total("rx_frames_in") == total("rx_dma", "rx_buffered", *RX_DROPS)
        out = total("msi_out", "msi_merged_pba", "msi_cleared", "msi_pending")
        assert total("msi_raised") == out

    def recover(self) -> None:
        """Any reset, then a plain driver: a frame out, a frame in, an interrupt each."""
        assert self._sum() == self._forbidden, "memory outside the windows was written"
        rng, device = self.rng, self.device
        self.switch_on()
        device.eeprom.image = make_image(MAC)  # what EEWR did outlives a reset
        device.link.set_module("da")
        self.give(("lan", PeerBack(1)), ("lan", LinkState(1, 10000)))
        how = rng.randrange(4)
        if how < 2:
            self.write("CTRL", 1 << (26 if how else 3))
        elif how == 2:
            self.set_config(0xA8, 0x8000)
        else:
            self.set_config(0x44, 3)
            self.set_config(0x44, 0)
        self.set_config(0x52, 0)
        self._free = self.pool + POOL_BYTES
        self.up(queues=1)
        tx, (rx, buffers) = self.tx_queue(entries=8), self.rx_queue(entries=8)
        self.put_tx(tx, 0, self.map(4096), frame(70))
        said = self.write("TDT", 1)
        assert self.frames(said) == [frame(70)], "it does not send"
        assert self.done(tx, 0)
        assert self.vectors(said) == [0]
        self.write("EIMS_EX", 1)
        said = self.wire(frame(80))
        assert self.dwords(rx, 0)[2] & 3 == 3, "it does not receive"
        assert self.ram.bytes[buffers : buffers + 80] == frame(80)
        assert self.vectors(said) == [0]

    def episode(self, seed: int, operations: int = EPISODE) -> None:
        """One random life from reset to reset."""
        self.rng = random.Random(seed)
        for draw in self.rng.choices(_DRAWN, _WEIGHTS, k=operations):
            draw(self)
            self.check()
        self.recover()
        self.check()


OPERATIONS: dict[Callable[[Fuzz], None], int] = {
    Fuzz.write_register: 20,
    Fuzz.write_bits: 10,
    Fuzz.anywhere: 5,
    Fuzz.read_register: 8,
    Fuzz.ring: 12,
    Fuzz.descriptors: 20,
    Fuzz.wire_in: 10,
    Fuzz.configure: 4,
    Fuzz.switch_on: 3,
    Fuzz.revive: 2,
    Fuzz.outside: 2,
    Fuzz.i2c: 1,
    Fuzz.wait: 6,
}
_DRAWN, _WEIGHTS = list(OPERATIONS), list(OPERATIONS.values())
_OFFSETS = list(DECODE)


def run(first: int, episodes: int) -> int:
    """Episodes with seeds from ``first`` on one NIC; returns how many operations they had."""
    nic = Fuzz()
    previous = signal.signal(signal.SIGALRM, _alarm)
    try:
        for seed in range(first, first + episodes):
            signal.alarm(ALARM_S)
            try:
                nic.episode(seed)
            except Exception as error:
                raise AssertionError(f"seeds {first} to {seed}: {error!r}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return episodes * EPISODE


def main(total: int) -> int:
    """Spread ``total`` operations over this computer's cores."""
    chunk = 20
    jobs = -(-total // (chunk * EPISODE))
    done = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for count in pool.map(
            run, range(1_000_000, 1_000_000 + jobs * chunk, chunk), [chunk] * jobs
        ):
            done += count
            print(f"\r{done} operations on a NIC", end="", flush=True)
    print(": every rule held")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
