"""A NIC on the bench with the hands of a driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    EthFrame,
    IntxMessage,
    LinkState,
    MemRead,
    MemWrite,
    MsiWrite,
    PeerBack,
)
from bus.ram import Ram
from nodes.nic.node import NicNode
from nodes.nic.page import RX_DROPS, TX_DROPS
from nodes.nic.registers import KEYS
from tests.nodes.harness import Bench, machine

MS = 1_000_000
MAC = bytes.fromhex("001b21000001")
PEER = bytes.fromhex("020000000001")


def frame(size: int = 60, destination: bytes = MAC, fill: int = 0x5A) -> bytes:
    """A frame of ``size`` bytes of no known protocol."""
    head = destination + PEER + b"\x88\xb5"
    return head + bytes([fill]) * (size - len(head))


class Rig(Bench):
    """``eth0`` of a small machine; ``up`` does what a driver does until traffic can flow."""

    def __init__(self, cpus: int = 2, ram: Ram | None = None) -> None:
        settings = machine(cpus)
        super().__init__(
            settings, "eth0", lambda around: NicNode(around, settings, settings.nics[0]), ram
        )
        self.nic = self.node
        assert isinstance(self.nic, NicNode)
        self.device = self.nic.device
        self._tag = 0
        self.dma = self.ram.layout.dma
        self._free = self.dma
        self.give(("lan", PeerBack(1)), ("lan", LinkState(1, 10000)))

    # -- PCIe

    def _complete(self, message: Any) -> int:
        answers = [
            m.value for _, m in self.give(("cpu0", message))
            if isinstance(m, Completion) and m.tag == message.tag
        ]  # fmt: skip
        assert len(answers) == 1
        return int(answers[0])

    def config(self, offset: int, size: int = 4) -> int:
        self._tag += 1
        return self._complete(CfgRead(self._tag, offset, size))

    def set_config(self, offset: int, value: int, size: int = 2) -> list[tuple[str, Any]]:
        self._tag += 1
        before = len(self.said)
        assert self._complete(CfgWrite(self._tag, offset, size, value)) == 0
        return self.said[before:]

    def read_at(self, offset: int, bar: int = 0) -> int:
        self._tag += 1
        return self._complete(MemRead(self._tag, bar, offset))

    def write_at(self, offset: int, value: int, bar: int = 0) -> list[tuple[str, Any]]:
        return self.give(("cpu0", MemWrite(bar, offset, value)))

    def read(self, name: str, index: int = 0) -> int:
        return self.read_at(KEYS[name][index])

    def write(self, name: str, value: int, index: int = 0) -> list[tuple[str, Any]]:
        return self.write_at(KEYS[name][index], value)

    def msis(self, said: list[tuple[str, Any]]) -> list[tuple[int, int]]:
        """(address, data) of the interrupt messages."""
        return [tuple(m) for peer, m in said if isinstance(m, MsiWrite) and peer == "apic"]

    def wires(self, said: list[tuple[str, Any]]) -> list[tuple[int, int]]:
        """(pin, asserted) of the INTx messages."""
        return [tuple(m) for peer, m in said if isinstance(m, IntxMessage) and peer == "apic"]

    def vectors(self, said: list[tuple[str, Any]]) -> list[int]:
        """Vectors of the interrupt messages, as ``program_msix`` numbered them."""
        return [data - 0x20 for _, data in self.msis(said)]

    def drops(self, names: Sequence[str]) -> dict[str, int]:
        """Frames dropped, by reason (``TX_DROPS`` or ``RX_DROPS``), all classes."""
        counts = {name: sum(self.page.run(name)) for name in names}
        return {name: count for name, count in counts.items() if count}

    def frames(self, said: list[tuple[str, Any]]) -> list[bytes]:
        return [m.frame for peer, m in said if isinstance(m, EthFrame) and peer == "lan"]

    # -- what a driver does

    def enable(self) -> None:
        """Memory decode and bus mastering."""
        self.set_config(4, 6)

    def program_msix(self, vectors: int = 64) -> None:
        """Vector v: address FEE00000 + v << 12, data 0x20 + v."""
        self.set_config(0x72, 0xC000)
        for v in range(vectors):
            for at, value in enumerate((0xFEE00000 | (v & 0xFF) << 12, 0, 0x20 + v, 0)):
                self.write_at(v * 16 + 4 * at, value, bar=4)
        self.set_config(0x72, 0x8000)

    def map(self, size: int, writable: bool = True) -> int:
        """Memory that the NIC may reach; its physical address."""
        at = self._free
        self._free += (size + 4095) // 4096 * 4096
        assert self._free <= self.ram.layout.total_bytes
        self.ram.iommu(0).map(at, size, writable)
        return at

    def interrupts(self, queues: int = 2, itr: int = 0) -> None:
        """As Linux does with MSI-X: queue n to vector n, the rest to the last."""
        self.write("GPIE", 0xC0000036)
        self.write("EIAM_EX", 0xFFFFFFFF, 0)
        self.write("EIAM_EX", 0xFFFFFFFF, 1)
        for q in range(queues):
            value = self.read("IVAR", q >> 1)
            shift = 16 * (q & 1)
            self.write("IVAR", value | (0x8080 | q | q << 8) << shift, q >> 1)
            self.write("EITR", 0x80000000 | itr, q)
        self.write("IVAR_MISC", (0x80 | queues) << 8)
        self.write("EIAC", 0x4000FFFF)
        self.write("EIMS", 0x00100000)
        self.write("EIMS_EX", 0xFFFFFFFF, 0)

    def tx_queue(self, q: int = 0, entries: int = 512, txdctl: int = 0x02000000) -> int:
        """An enabled transmit queue; physical address of its ring."""
        ring = self.map(entries * 16)
        self.write("TDBAL", ring & 0xFFFFFFFF, q)
        self.write("TDBAH", ring >> 32, q)
        self.write("TDLEN", entries * 16, q)
        self.write("TDH", 0, q)
        self.write("TDT", 0, q)
        self.write("DMATXCTL", 1)
        self.write("TXDCTL", txdctl, q)
        assert self.read("TXDCTL", q) == txdctl
        return ring

    def rx_queue(
        self, q: int = 0, entries: int = 512, srrctl: int = 0x02000402, fill: bool = True
    ) -> tuple[int, int]:
        """An enabled receive queue with 2 KiB buffers: (ring, first buffer)."""
        ring = self.map(entries * 16)
        buffers = self.map(entries * 2048)
        for i in range(entries):
            self.ram.words64[ring // 8 + 2 * i] = buffers + i * 2048
            self.ram.words64[ring // 8 + 2 * i + 1] = 0
        self.write("RDBAL", ring & 0xFFFFFFFF, q)
        self.write("RDBAH", ring >> 32, q)
        self.write("RDLEN", entries * 16, q)
        self.write("RDH", 0, q)
        self.write("RDT", 0, q)
        self.write("SRRCTL", srrctl, q)
        self.write("RXDCTL", 0x02000000, q)
        assert self.read("RXDCTL", q) & 1 << 25
        if fill:
            self.write("RDT", entries - 1, q)
        return ring, buffers

    def link(self) -> None:
        """Wait until the link is up, and forget the LSC."""
        self.give()
        self.advance(30 * MS)
        assert self.read("LINKS") >> 30 & 1
        self.read("EICR")

    def up(self, queues: int = 2, itr: int = 0) -> None:
        """Everything but rings."""
        self.enable()
        self.program_msix()
        self.link()
        self.interrupts(queues, itr)
        self.write("FCTRL", 0x400)
        self.write("RXCTRL", 1)

    def wire(self, *frames: bytes) -> list[tuple[str, Any]]:
        """Frames from the switch, in one inbox."""
        return self.give(*(("lan", EthFrame(f)) for f in frames))

    def inbox_with_read(self, *frames: bytes) -> None:
        """Frames, and behind them a register read, in one inbox."""
        self._tag += 1
        self.give(
            *(("lan", EthFrame(f)) for f in frames),
            ("cpu0", MemRead(self._tag, 0, KEYS["STATUS"][0])),
        )

    # -- descriptors

    def put_tx(self, ring: int, index: int, buffer: int, data: bytes, command: int = 0x2B) -> None:
        """An advanced data descriptor; ``command`` as in bits 31:24 (EOP|IFCS|RS|DEXT)."""
        self.ram.bytes[buffer : buffer + len(data)] = data
        low = len(data) | 3 << 20 | command << 24
        self.ram.words64[ring // 8 + 2 * index] = buffer
        self.ram.words64[ring // 8 + 2 * index + 1] = low | len(data) << 46

    def dwords(self, ring: int, index: int) -> list[int]:
        """The four dwords of a descriptor."""
        at = ring // 4 + 4 * index
        return self.ram.words32[at : at + 4].tolist()

    def done(self, ring: int, index: int) -> bool:
        """DD of a transmit descriptor."""
        return bool(self.dwords(ring, index)[3] & 1)


def balanced(rig: Rig) -> None:
    """The sums that the page promises."""
    page = rig.page
    for kind in range(3):
        tx = [page.run(name)[kind] for name in ("tx_fetched", "tx_frames_out", *TX_DROPS)]
        assert tx[0] == sum(tx[1:])
        names = ("rx_frames_in", "rx_dma", "rx_buffered", *RX_DROPS)
        rx = [page.run(name)[kind] for name in names]
        assert rx[0] == sum(rx[1:])
    assert page["msi_raised"] == (
        page["msi_out"] + page["msi_merged_pba"] + page["msi_cleared"] + page["msi_pending"]
    )
