"""Which UDP socket has which port: udp_table of net/ipv4/udp.c.

A port is taken by setting its bit in an atomic word, so two CPUs cannot both have it; then the
socket is published, and each CPU finds it in its own table. A port is taken for all addresses at
once (there is no SO_REUSEADDR).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel import words
from nodes.cpu.kernel.tables import replica

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: An address and a port.
Endpoint = tuple[bytes, int]


class UdpEntry(NamedTuple):
    """What every CPU knows of a bound socket; addresses and ports of 0: any."""

    number: int
    owner: int  # CPU
    address: bytes
    port: int
    ifindex: int
    peer: bytes
    peer_port: int
    pid: int
    name: str


@replica("udp_socket")
def apply_udp_socket(cpu: Cpu, number: int, value: tuple[Any, ...] | None) -> None:
    """A socket was bound, connected or moved; None: it was closed."""
    table = cpu.net.udp_table
    for port, entries in list(table.items()):
        left = [entry for entry in entries if entry.number != number]
        if left:
            table[port] = left
        else:
            del table[port]
    if value is not None:
        entry = UdpEntry(number, *value)
        table.setdefault(entry.port, []).append(entry)


def udp_lookup(cpu: Cpu, local: Endpoint, remote: Endpoint, ifindex: int) -> UdpEntry | None:
    """__udp4_lib_lookup: the socket that fits best, by compute_score."""
    best, best_score = None, 0
    for entry in cpu.net.udp_table.get(local[1], ()):
        score = 1
        for wanted, found in (
            (entry.address, local[0]),
            (entry.peer, remote[0]),
            (entry.peer_port, remote[1]),
        ):
            if wanted and any(wanted) if isinstance(wanted, bytes) else wanted:
                if wanted != found:
                    score = 0
                    break
                score += 4
        if score and entry.ifindex and ifindex:
            score = score + 4 if entry.ifindex == ifindex else 0
        if score > best_score:
            best, best_score = entry, score
    return best


def take_port(cpu: Cpu, port: int) -> bool:
    """Is the port ours now?"""
    return not cpu.ram.atomics.test_and_set(words.UDP_PORTS + port // 64, 1 << port % 64)


def give_port(cpu: Cpu, port: int) -> None:
    cpu.ram.atomics.clear_bits(words.UDP_PORTS + port // 64, 1 << port % 64)
