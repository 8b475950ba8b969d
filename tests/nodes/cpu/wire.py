"""What stands on the other side of the cable, for tests: frames that leave a NIC, and frames made
with scapy that arrive at it."""

from __future__ import annotations

from collections.abc import Callable

from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from bus.messages import EthFrame
from tests.nodes.cpu.harness import Box

US, PEER = "192.168.1.10", "192.168.1.1"


class Wire:
    """``sent``: frames of the machine, in order. ``answer`` may make frames from each."""

    def __init__(self, box: Box, answer: Callable[[Ether], list[Packet]] | None = None) -> None:
        self.box = box
        self.sent: list[bytes] = []
        self._answer = answer

        def watch(_now: int, sender: str, receiver: str, message: object) -> None:
            if isinstance(message, EthFrame) and receiver == "lan":
                self.sent.append(message.frame)
                if self._answer is not None:
                    for packet in self._answer(Ether(message.frame)):
                        self._inject(packet, sender)

        box.machine.simulation.watch = watch

    def mac(self) -> bytes:
        return bytes(self.box.kernel()["netdevs"]["bond0"]["address"])

    def arrive(self, packet: Packet, nic: str = "eth0", ms: float = 5) -> None:
        """An IP packet (or a whole frame) comes off the wire."""
        self._inject(packet, nic)
        self.box.live(ms)

    def _inject(self, packet: Packet, nic: str) -> None:
        if not packet.haslayer(Ether):
            mac = self.mac().hex(":") if not self._answer else "00:1b:21:00:00:01"
            packet = Ether(dst=mac, src="02:00:00:00:00:01", type=0x0800) / packet
        data = bytes(packet).ljust(60, b"\0")
        self.box.machine.simulation.send(nic, EthFrame(data), sender="lan")

    def ip(self) -> list[IP]:
        """IP packets of the machine, the padding of the NIC cut off."""
        return [Ether(frame)[IP] for frame in self.sent if frame[12:14] == b"\x08\x00"]


def counters(box: Box) -> dict[str, int]:
    """/proc/net/snmp: {"Ip InReceives": n, ...}."""
    lines = box.proc("/proc/net/snmp").splitlines()
    found = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol = names.split(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:], strict=True):
            found[f"{protocol} {name}"] = int(value)
    return found
