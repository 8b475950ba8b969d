"""A real driver's register conversation, played to our device: each read gives what it needs.

The log is of the unmodified ixgbe of Linux 6.1 against another server (``registerlog``). Time goes
as it went there. A write that follows a read of the same register is taken as the driver's
read-modify-write: bits it did not change keep what our device answered. Rings and buffers lie
where our memory is. What may differ stands in ``EQUIVALENT`` and ``WAITED``, with the reason;
nothing else may, and an entry that nothing needs fails the test.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from bus.messages import LinkState
from nodes.nic.registers import DECODE, KEYS, name_of
from tests.nodes.nic.hands import I2cHands, eeprom_word, give, take
from tests.nodes.nic.registerlog import Access, Move, Note, Step, read
from tests.nodes.nic.rig import MS, Rig

ALL = 0xFFFF_FFFF
ACCESS_NS = 10_000
OTHER_VECTOR = 1

#: Register: (bits that may differ, why the driver does not mind).
EQUIVALENT: dict[str, tuple[int, str]] = {
    "EEC": (0x7C30, "the EEPROM here is larger, with 16 address bits; flash writes are off"),
    "SECTXSTAT": (2, "offload is fused off here: the driver then spares itself the IPsec tables"),
    "SECRXSTAT": (2, "as SECTXSTAT"),
    "IPSRXIDX": (ALL, "the log leaves out 18018 lines before; fused off, the driver never asks"),
    "EICR": (1 << 20, "the link came up before a driver was there, which is a cause (LSC)"),
    "ESDP": (0xFF00, "the board's pin directions come out of the EEPROM here"),
    "HLREG0": (1 << 27, "RXLNGTHERREN is on after a reset; the driver changes other bits"),
    "VLNCTRL": (0xFFFF, "the VLAN type has its reset value 8100 here"),
    "RTTDCS": (0x00C0_0000, "BDPM and BPBFSM are on after a reset"),
    "DMATXCTL": (0xFFFF_0000, "the VLAN type has its reset value 8100 here"),
    "RDRXCTL": (0x003E_0000, "RSCFRSTSIZE is not 0 after a reset; the driver clears it"),
    "RXDCTL": (1 << 26, "SWFLSH clears itself here; the driver polls ENABLE"),
    "FWSTS": (1 << 9, "written 1 it clears here; the driver writes it and does not look"),
    "MSRWD": (0xFFFF_0000, "no PHY: all ones from a pulled-up line, as good as 0"),
}  # fmt: skip
#: Registers that the driver asks again, and how long it is ready to.
WAITED = {"LINKS": (500 * MS, "negotiation takes time here; the driver looks every 100 ms")}
#: EEPROM words that are others here.
WORDS = {
    0x0B: "a MAC section is there, with the address that a reset loads",
    0x15: "the part number is in the form of a string",
    0x16: "the block with that string",
    0x3F: "the checksum over all that",
}  # fmt: skip
STATISTICS_MAX = 10_000  # the log's server counted nothing, our device does


class Difference(NamedTuple):
    line: int
    what: str
    wanted: int
    got: int


def _frame(size: str, start: str) -> bytes:
    """``98B`` and its first bytes: the log cuts frames; a ping's data was zeros."""
    return bytes.fromhex(start).ljust(int(size[:-1]), b"\0")


class Player:
    """Plays steps to a device and keeps what was not as the driver needs it."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.differences: list[Difference] = []
        self.used: set[str] = set()
        self.reads = 0
        self._start_ns: int | None = None
        self._last: dict[int, tuple[int, int]] = {}  # offset: (wanted, got) of the last read
        self._tx = self._rx = 0
        self._rx_buffers = 0
        self._heard = self._listened = 0

    def play(self, steps: list[Step]) -> None:
        for at, step in enumerate(steps):
            if isinstance(step, Access):
                self.rig.advance(ACCESS_NS)
                if not step.write:
                    self._read(step)
                elif step.offset == KEYS["TDT"][0] and step.value:
                    self._transmit(step, steps[at + 1 : at + 6])
                else:
                    self._write(step)
            elif isinstance(step, Move):
                self._move(step)
            else:
                self._note(step)
            self._listen(steps[at + 1 : at + 3])

    # -- interrupts

    def _listen(self, following: list[Step]) -> None:
        """The log's link never dropped by itself; ours does when negotiation is restarted. Its
        driver would have handled that, so it is handled here."""
        new = self.rig.said[self._listened :]
        self._listened = len(self.rig.said)
        announced = any(isinstance(s, Note) and "MSI-X vector 1" in s.text for s in following)
        if OTHER_VECTOR in self.rig.vectors(new) and not announced:
            self.rig.write("EICR", self.rig.read("EICS") & 0xFFFF_0000)

    def _expect_vector(self, note: Note, vector: int) -> None:
        """A message of this vector has come since the last note of one, or comes by EITR."""
        self.rig.advance(MS)
        heard = self.rig.vectors(self.rig.said[self._heard :])
        self._heard = len(self.rig.said)
        if vector not in heard:
            self.differences.append(Difference(note.line, "MSI-X vector", vector, -1))

    # -- single accesses

    def _read(self, step: Access) -> None:
        self.reads += 1
        name = name_of(step.offset)
        slot = DECODE.get(step.offset)
        row = name.partition("[")[0]
        got = self.rig.read_at(step.offset)
        self._last[step.offset] = (step.value, got)
        if got == step.value:
            return
        if slot is not None and slot.register.access == "RC" and got <= STATISTICS_MAX:
            return
        mask, _ = EQUIVALENT.get(row, (0, ""))
        if not (got ^ step.value) & ~mask:
            self.used.add(row)
            return
        if row in WAITED:
            end = self.rig.clock.ns + WAITED[row][0]
            while self.rig.clock.ns < end and self.rig.read_at(step.offset) != step.value:
                self.rig.advance(MS)
            got = self.rig.read_at(step.offset)
            self.used.add(row)
        if got != step.value:
            self.differences.append(Difference(step.line, name, step.value, got))

    def _write(self, step: Access) -> None:
        value = step.value
        wanted, got = self._last.pop(step.offset, (0, 0))
        if wanted != got:
            kept = ~(value ^ wanted) & ALL
            value = got & kept | value & ~kept
        if step.offset == KEYS["TDBAL"][0]:
            self._tx = value = self.rig.map(8192)
        elif step.offset == KEYS["RDBAL"][0]:
            self._rx = value = self.rig.map(8192)
        elif step.offset == KEYS["RDT"][0] and value:
            self._fill()
        self.rig.write_at(step.offset, value)

    def _move(self, step: Move) -> None:
        rig = self.rig
        if step.kind == "eeprom":
            got = eeprom_word(rig, step.at)
            if got != step.value:
                if step.at in WORDS:
                    self.used.add(f"word {step.at:02x}")
                else:
                    what = f"EEPROM word {step.at:03x}"
                    self.differences.append(Difference(step.line, what, step.value, got))
        elif step.kind == "take":
            assert take(rig, step.at)
            assert rig.read("GSSR") == step.value
        elif step.kind == "give":
            give(rig, step.at)
            assert rig.read("GSSR") == step.value
        elif step.kind == "i2c":
            got = I2cHands(rig).read(0xA0, step.at)[0]
            if got != step.value:
                what = f"module byte {step.at:02x}"
                self.differences.append(Difference(step.line, what, step.value, got))
        elif step.kind == "mdio":
            rig.write("MSCA", step.at & ~(3 << 26))
            assert not rig.read("MSCA") >> 30 & 1
            rig.write("MSCA", step.at)
            assert not rig.read("MSCA") >> 30 & 1
            self._read(Access(step.line, False, KEYS["MSRWD"][0], step.value << 16))

    # -- rings

    def _fill(self) -> None:
        """A buffer for each of 512 descriptors."""
        self._rx_buffers = self.rig.map(512 * 2048)
        for i in range(512):
            self.rig.ram.words64[self._rx // 8 + 2 * i] = self._rx_buffers + i * 2048
            self.rig.ram.words64[self._rx // 8 + 2 * i + 1] = 0

    def _transmit(self, step: Access, notes: list[Step]) -> None:
        """The log shows descriptor and frame after the doorbell."""
        rig = self.rig
        texts = [note.text.split() for note in notes if isinstance(note, Note)]
        descriptor = next(bytes.fromhex(t[3]) for t in texts if t[0] == "TX" and t[1] == "q0")
        frame = next(_frame(t[2], t[3]) for t in texts if t[:2] == ["TX", "frame"])
        at = self._tx // 8 + 2 * (step.value - 1)
        buffer = rig.map(2048)
        rig.ram.bytes[buffer : buffer + len(frame)] = frame
        rig.ram.words64[at] = buffer
        rig.ram.words64[at + 1] = int.from_bytes(descriptor[8:], "little")
        before = len(rig.said)
        self._write(step)
        assert rig.frames(rig.said[before:]) == [frame.ljust(60, b"\0")]
        rig.advance(MS)  # WTHRESH is 8: the write-back waits for EITR
        assert rig.done(self._tx, step.value - 1)

    # -- notes: what happened around the device

    def _note(self, note: Note) -> None:
        rig, text = self.rig, note.text
        if self._start_ns is None:
            self._start_ns = rig.clock.ns - note.time_ns
        behind = self._start_ns + note.time_ns - rig.clock.ns
        if behind > 0:
            rig.advance(behind)
        words = text.split()
        if text == "DEVICE_RESET":
            rig.nic.function.reset()  # type: ignore[attr-defined]
        elif text.startswith("== insmod"):
            rig.enable()
        elif text.startswith("config write"):
            rig.set_config(int(words[2], 16), int(words[4], 16), len(words[4]) // 2)
            if words[4] == "c03f":  # the table goes past the log's server
                for v in range(4):
                    for k, value in enumerate((0xFEE00000, 0, 0x20 + v, 0)):
                        rig.write_at(v * 16 + 4 * k, value, bar=4)
        elif text.startswith("link "):
            rig.give(("lan", LinkState(int(words[1] == "up"), 10000)))
            rig.advance(2 * MS)
        elif text.startswith("MSI-X vector"):
            self._expect_vector(note, int(words[2]))
        elif text.startswith("RX q0"):
            index, frame = int(words[2][5:-1]), _frame(words[5], words[6])
            rig.wire(frame)
            dwords = rig.dwords(self._rx, index)
            assert dwords[2] & 3 == 3
            assert dwords[3] == len(frame)
            at = self._rx_buffers + 2048 * index
            assert rig.ram.bytes[at : at + len(frame)] == frame


@pytest.mark.conformance("H17.4-1")
def test_each_read_of_a_real_driver_gives_what_it_needs() -> None:
    player = Player()
    player.play(read())
    assert player.reads > 9_000
    assert player.differences == []
    needed = {*EQUIVALENT, *WAITED, *(f"word {word:02x}" for word in WORDS)}
    assert player.used == needed
    page = player.rig.page
    assert page["dma_refused"] == 0
    assert page["unsupported_requests"] == 0
    assert page["unexpected"] == 0


def test_log_unfolds_to_as_many_accesses_as_its_server_counted() -> None:
    """Between two notes each, from ``ip link set up`` on; before, the log leaves out lines.

    A word of the EEPROM costs three: the driver polls EERD, then reads it again for the data."""
    cost = {"eeprom": 3, "take": 9, "give": 9, "mdio": 5, "i2c": 0}
    steps = read()
    first = next(i for i, s in enumerate(steps) if isinstance(s, Note) and "eth0 up" in s.text)
    total = -1
    for step in steps[first:]:
        if isinstance(step, Note):
            total = step.accesses if total < 0 else total
            assert total == step.accesses, f"line {step.line}"
        elif isinstance(step, Move):
            total += step.value if step.kind == "bits" else cost[step.kind]
        else:
            total += 1
