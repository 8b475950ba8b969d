"""Frames through the device: what one NIC's state machine takes and gives, without a bus.

A NIC node gets whole inboxes as its process would hand them over after decoding: BATCH frames from
the switch, or one doorbell for BATCH descriptors, with an interrupt for each batch (MSI-X, masked
by itself and unmasked by the next inbox, as NAPI does). Only the node's turns are timed; what a
driver would do between them (refilling the ring) is not.

The yardstick is a bare ring in the same memory: per frame, read a descriptor, copy the bytes to or
from its buffer, store the descriptor, move the head. No model in Python can do with less; the ratio
is the device's rate over that. Device and yardstick alternate, ROUNDS times; medians are reported.
Seconds are those of CPU time: neither of the two ever waits.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from bus.messages import CfgWrite, EthFrame, LinkState, MemWrite, PeerBack
from bus.node import Surroundings
from bus.ram import Ram
from nodes.machine import GatewaySettings, MachineSettings, NicSettings
from nodes.nic.node import NicNode
from nodes.nic.registers import KEYS

BATCH = 64
ENTRIES = 512
BUFFER_BYTES = 2048
SIZES = (60, 1514)
ROUNDS = 5
BATCHES = 400
MAC = bytes.fromhex("001b21000001")
PEER = bytes.fromhex("020000000001")
_UP_NS = 100_000_000
_TX_COMMAND = 0x2B30_0000  # EOP | IFCS | RS | DEXT, data descriptor


def echo_reply(size: int, destination: bytes, source: bytes) -> bytes:
    """An ICMP echo reply of ``size`` bytes; its IPv4 header checksum is right."""
    header = bytearray(bytes.fromhex("45000000000000004001") + bytes(2))
    header[2:4] = (size - 14).to_bytes(2, "big")
    header += bytes((192, 168, 1, 1)) + bytes((192, 168, 1, 10))
    total = 0xFFFF - int.from_bytes(header, "big") % 0xFFFF
    header[10:12] = total.to_bytes(2, "big")
    return (destination + source + b"\x08\x00" + bytes(header)).ljust(size, b"\0")


class Driven:
    """A NIC node with its link up and one queue pair; ``now`` is the test's own clock."""

    def __init__(self) -> None:
        nic = NicSettings("eth0", 0, MAC)
        settings = MachineSettings("bench", "6.1", 1, (nic,), None, GatewaySettings())
        self.ram = Ram.anonymous(settings.layout())
        self.now = _UP_NS
        page = self.ram.page("eth0")
        self.node = NicNode(
            Surroundings("eth0", 1, lambda: self.now, self.ram, page, random.Random(1), 0),
            settings, nic,
        )  # fmt: skip
        self.rx_ring = self.ram.layout.dma
        self.tx_ring = self.rx_ring + ENTRIES * 16
        self.buffers = self.tx_ring + ENTRIES * 16
        self.ram.iommu(0).map(self.rx_ring, ENTRIES * (32 + BUFFER_BYTES), True)
        self.node.turn([("lan", PeerBack(1)), ("lan", LinkState(1, 10_000))], BATCH)
        self.now += _UP_NS
        self._configure()

    def _write(self, name: str, value: int) -> None:
        self.node.turn([("cpu0", MemWrite(0, KEYS[name][0], value))], BATCH)
        self.node.outbox = {}

    def _configure(self) -> None:
        for offset, value in ((4, 6), (0x72, 0x8000)):
            self.node.turn([("cpu0", CfgWrite(1, offset, 2, value))], BATCH)
        for at, value in enumerate((0xFEE0_0000, 0, 0x20, 0)):
            self.node.turn([("cpu0", MemWrite(4, 4 * at, value))], BATCH)
        for name, value in (
            ("GPIE", 0xC000_0036), ("EIAM_EX", 1), ("EIAC", 0x4000_FFFF), ("IVAR", 0x8080),
            ("EIMS_EX", 1), ("FCTRL", 0x400), ("RXCSUM", 1 << 13), ("RXCTRL", 1), ("DMATXCTL", 1),
            ("RDBAL", self.rx_ring), ("RDLEN", ENTRIES * 16), ("SRRCTL", 0x0200_0402),
            ("RXDCTL", 1 << 25), ("TDBAL", self.tx_ring), ("TDLEN", ENTRIES * 16),
            ("TXDCTL", 1 << 25),
        ):  # fmt: skip
            self._write(name, value)

    def received_per_s(self, size: int, batches: int) -> float:
        """Frames a second from the wire to memory."""
        words, first = self.ram.words64, self.rx_ring // 8
        frame = EthFrame(echo_reply(size, MAC, PEER))
        fresh = [w for i in range(ENTRIES) for w in (self.buffers + i * BUFFER_BYTES, 0)]
        turn, clock = self.node.turn, time.process_time
        head, took = self.node.device.receive.queue(0).head, 0.0
        for _ in range(batches):
            for i in range(2 * ENTRIES):
                words[first + i] = fresh[i]
            inbox = [
                ("cpu0", MemWrite(0, KEYS["EIMS_EX"][0], 1)),
                ("cpu0", MemWrite(0, KEYS["RDT"][0], (head - 1) % ENTRIES)),
                *[("lan", frame)] * BATCH,
            ]
            self.now += 1_000_000
            began = clock()
            turn(inbox, BATCH)
            took += clock() - began
            self.node.outbox = {}
            head = (head + BATCH) % ENTRIES
        if self.node.device.receive.queue(0).head != head:
            raise RuntimeError("the device did not take every frame")
        return batches * BATCH / took

    def sent_per_s(self, size: int, batches: int) -> float:
        """Frames a second from memory to the wire."""
        words, first = self.ram.words64, self.tx_ring // 8
        frame = echo_reply(size, PEER, MAC)
        for i in range(ENTRIES):
            buffer = self.buffers + i * BUFFER_BYTES
            self.ram.bytes[buffer : buffer + size] = frame
            words[first + 2 * i] = buffer
            words[first + 2 * i + 1] = size | _TX_COMMAND | size << 46
        turn, clock = self.node.turn, time.process_time
        tail, took = self.node.device.transmit.queue(0).head, 0.0
        for _ in range(batches):
            tail = (tail + BATCH) % ENTRIES
            inbox = [
                ("cpu0", MemWrite(0, KEYS["EIMS_EX"][0], 1)),
                ("cpu0", MemWrite(0, KEYS["TDT"][0], tail)),
            ]
            self.now += 1_000_000
            began = clock()
            turn(inbox, BATCH)
            took += clock() - began
            if len(self.node.outbox["lan"]) != BATCH:
                raise RuntimeError("the device did not send every frame")
            self.node.outbox = {}
        return batches * BATCH / took

    def bare_received_per_s(self, size: int, batches: int) -> float:
        """The yardstick: bytes into a buffer, a descriptor read and written."""
        memory, words, first = self.ram.bytes, self.ram.words64, self.rx_ring // 8
        frame = echo_reply(size, MAC, PEER)
        for i in range(ENTRIES):
            words[first + 2 * i] = self.buffers + i * BUFFER_BYTES
        head = 0
        began = time.process_time()
        for _ in range(batches * BATCH):
            at = first + 2 * head
            address = words[at]
            length = len(frame)
            memory[address : address + length] = frame
            words[at] = address
            words[at + 1] = 3 | length << 32
            head = head + 1 if head + 1 < ENTRIES else 0
        return batches * BATCH / (time.process_time() - began)

    def bare_sent_per_s(self, size: int, batches: int) -> float:
        """The yardstick: bytes out of a buffer, a descriptor read and written."""
        memory, words, first = self.ram.bytes, self.ram.words64, self.tx_ring // 8
        words32 = self.ram.words32
        for i in range(ENTRIES):
            words[first + 2 * i] = self.buffers + i * BUFFER_BYTES
            words[first + 2 * i + 1] = size | _TX_COMMAND
        out: list[bytes] = []
        head = 0
        began = time.process_time()
        for _ in range(batches * BATCH):
            at = first + 2 * head
            address, control = words[at], words[at + 1]
            out.append(bytes(memory[address : address + (control & 0xFFFF)]))
            words32[2 * at + 3] = 1
            head = head + 1 if head + 1 < ENTRIES else 0
            if len(out) == BATCH:
                out.clear()
        return batches * BATCH / (time.process_time() - began)


def measure(rounds: int = ROUNDS, batches: int = BATCHES) -> dict[str, dict[str, float]]:
    """``frames_per_s`` and ``ratio`` (to the bare ring) by way and size, medians over rounds."""
    driven = Driven()
    ways: dict[str, tuple[Callable[[int, int], float], Callable[[int, int], float]]] = {
        "rx": (driven.received_per_s, driven.bare_received_per_s),
        "tx": (driven.sent_per_s, driven.bare_sent_per_s),
    }
    rates: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for way, (device, bare) in ways.items():
        for size in SIZES:
            pairs = [(device(size, batches), bare(size, batches)) for _ in range(rounds)]
            rates[f"{way}_{size}"] = statistics.median(rate for rate, _ in pairs)
            ratios[f"{way}_{size}"] = statistics.median(rate / other for rate, other in pairs)
    return {"frames_per_s": rates, "ratio": ratios}
