"""What the page of one NIC says: link, rings, vectors, where frames ended.

Ring registers follow the 82599's rule: descriptors from head up to tail belong to the hardware
(receive: free buffers; transmit: frames that wait to be sent), all others to the driver.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.nic.page import QUEUE_ROWS, RX_DROPS, TX_DROPS, VECTOR_ROWS
from orchestrator.dashboards.model import MachineView, NodeView

BUS_MASTER = 4  # of the command register
#: Where a frame can end in or at a NIC besides being delivered, with the words people read.
DROP_WORDS = {
    "tx_drop_descriptor": "unknown descriptor",
    "tx_drop_offload": "offload does not fit",
    "tx_drop_oversize": "too long for the wire",
    "tx_drop_fcs": "wrong FCS",
    "tx_drop_laser_off": "laser is off",
    "tx_dma_refused": "DMA read refused",
    "tx_lost_peer_dead": "the switch is dead",
    "tx_lost_peer_full": "the switch takes nothing",
    "rx_drop_link_down": "link is down",
    "rx_drop_rx_off": "receive unit is off",
    "rx_drop_length": "wrong length",
    "rx_drop_filter": "not our address",
    "rx_drop_vlan": "VLAN not in the table",
    "rx_drop_queue_off": "queue is off",
    "rx_drop_no_descriptor": "no free descriptor",
    "rx_drop_missed": "packet buffer full (MPC)",
    "rx_drop_dma": "DMA write refused",
    "rx_drop_reset": "port was reset",
    "rx_drop_control": "MAC control frame",
    "rx_drop_crc": "wrong FCS",
    "rx_drop_loopback": "loopback: the wire is not heard",
}
#: Dword of a written-back descriptor that holds DD as bit 0.
_STATUS = {"rx": 2, "tx": 3}
DROPS = (*TX_DROPS, "tx_dma_refused", "tx_lost_peer_dead", "tx_lost_peer_full", *RX_DROPS)


class Ring(NamedTuple):
    """One descriptor ring."""

    queue: int
    head: int
    tail: int
    size: int  # 0 while disabled
    packets: int
    per_second: float
    done: tuple[bool, ...]  # DD of each descriptor, as far as the ring lies in RAM

    @property
    def hardware(self) -> int:
        """Descriptors that belong to the NIC."""
        return (self.tail - self.head) % self.size if self.size else 0

    def bar(self, columns: int) -> str:
        """``#`` the NIC's; ``D`` the driver's, DD set; ``.`` the driver's, not yet used;
        ``H`` and ``T`` where head and tail are."""
        if not self.size:
            return "off".ljust(columns)
        cells = []
        for cell in range(columns):
            first, last = cell * self.size // columns, (cell + 1) * self.size // columns
            middle = (first + last) // 2
            mine = (middle - self.head) % self.size < self.hardware
            cells.append("#" if mine else "D" if any(self.done[first:last]) else ".")
        cells[self.tail * columns // self.size % columns] = "T"
        cells[self.head * columns // self.size % columns] = "H"
        return "".join(cells)


class Vector(NamedTuple):
    """One MSI-X vector."""

    number: int
    pending: bool  # EICR
    enabled: bool  # EIMS
    held: bool  # MSI-X pending bit
    causes: float  # per second
    sent: float  # per second
    moderated: float  # per second
    itr_us: float


class Drop(NamedTuple):
    """Frames that ended at one named place."""

    field: str
    words: str
    frames: int
    per_second: float


def rings(view: MachineView, node: NodeView, way: str) -> list[Ring]:
    """Rings that are on or ever carried a packet; ``way`` is "rx" or "tx"."""
    out = []
    for queue in range(QUEUE_ROWS):
        head, tail, size, packets = (
            node.get(f"{way}_{what}", queue) for what in ("head", "tail", "size", "packets")
        )
        if size or packets:
            per_second = node.rate(f"{way}_packets", queue)
            done = view.descriptors_done(node.get(f"{way}_base", queue), size, _STATUS[way])
            out.append(Ring(queue, head, tail, size, packets, per_second, tuple(done)))
    return out


def vectors(node: NodeView) -> list[Vector]:
    """Vectors whose table entry was written, or that were ever used."""
    eicr, eims, pba = (node.get(name) for name in ("eicr_vectors", "eims_vectors", "pba"))
    out = []
    for n in range(VECTOR_ROWS):
        if any(node.get(name, n) for name in ("msix_address", "causes", "msi_by_vector")):
            out.append(
                Vector(
                    n,
                    bool(eicr >> n & 1),
                    bool(eims >> n & 1),
                    bool(pba >> n & 1),
                    node.rate("causes", n),
                    node.rate("msi_by_vector", n),
                    node.rate("moderated", n),
                    node.get("itr_ns", n) / 1e3,
                )
            )
    return out


def drops(node: NodeView) -> list[Drop]:
    """Places where frames ended, those of the last second first."""
    found = [
        Drop(name, DROP_WORDS[name], sum(node.run(name)), node.rate(name))
        for name in DROPS
        if any(node.run(name))
    ]
    return sorted(found, key=lambda drop: (-drop.per_second, -drop.frames))


def starved_queue(node: NodeView) -> int | None:
    """The receive queue that lost frames for want of descriptors in the last second."""
    lost = [node.delta("rx_no_descriptor", queue) for queue in range(QUEUE_ROWS)]
    worst = max(range(QUEUE_ROWS), key=lambda queue: lost[queue])
    return worst if lost[worst] else None


def vector_use(view: MachineView, number: int) -> str:
    """What the driver uses a vector for: queue pairs first, then everything else."""
    return f"TxRx-{number}" if number < view.settings.queues else "other"
