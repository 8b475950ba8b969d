"""One 82599: its link, its rings, its vectors, and where frames ended."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from orchestrator.dashboards import facts, nicfacts
from orchestrator.dashboards.common import PLAIN, Size, footer, header
from orchestrator.dashboards.draw import (
    Box,
    Frame,
    Line,
    Shelf,
    compose,
    count,
    rate,
    spark,
    static,
    two,
)
from orchestrator.dashboards.model import SLOW_PERIOD_NS, MachineView, NodeView
from orchestrator.dashboards.nicsentences import NIC
from orchestrator.dashboards.sentences import sentence

KEYS = "Left Right other process  space hold  k kill f freeze c cable r restart  q quit"
_BAR = 20
_COLUMNS = 60


def render(view: MachineView, node: NodeView, size: Size = PLAIN) -> Frame:
    """The dashboard of one NIC in exactly the given size."""
    shelves = [
        Shelf((_link(view, node), _interrupts(node))),
        Shelf((_rings(view, node),)),
        Shelf((_vectors(view, node),)),
        Shelf((_rates(node),)),
        Shelf((_drops(node), _dma(node))),
    ]
    return compose(
        header(view, node, size),
        sentence(NIC, view, node),
        shelves,
        footer(KEYS, size)[:1],
        size.width,
        size.height,
    )


def _yes(value: int) -> str:
    return "yes" if value else "no"


def _link(view: MachineView, node: NodeView) -> Box:
    """The light both ways and what the link registers say."""
    get = node.get
    cable = "out" if facts.cable_out(view, node.name) else "in"
    lines = [
        f" LINKS.UP {get('link_up')}  light {_yes(get('light'))}  laser {_yes(get('laser'))}",
        f" cable {cable}  changes {get('link_changes')}  resets {get('resets')}",
        f" DRV_LOAD {get('drv_load')}  RXEN {get('rxen')}  TE {get('txen')}"
        f"  bus master {int(bool(get('pci_command') & nicfacts.BUS_MASTER))}",
    ]
    return Box("link", static(lines), 3)


def _interrupts(node: NodeView) -> Box:
    """Cause and mask registers, and MSI-X."""
    get = node.get
    lines = [
        f" EICR {get('eicr'):#010x}  EIMS {get('eims'):#010x}",
        f" MSI-X {'on' if get('msix_enabled') else 'off'}  sent {count(get('msi_out'))}"
        f"  pending {get('msi_pending')}",
        f" masked {count(get('msi_masked_pba'))}  of these merged {count(get('msi_merged_pba'))}",
    ]
    return Box("interrupts", static(lines), 3)


def _rings(view: MachineView, node: NodeView) -> Box:
    """A line for each queue pair: both rings as bars, descriptors of the NIC, packets a second."""
    pairs = {
        way: {ring.queue: ring for ring in nicfacts.rings(view, node, way)} for way in ("rx", "tx")
    }
    queues = sorted(pairs["rx"].keys() | pairs["tx"].keys())

    def half(way: str, queue: int, columns: int) -> Text:
        ring = pairs[way].get(queue)
        if ring is None:
            return Text(f" {way} {queue:<2} -")
        bar = ring.bar(_BAR)
        text = Text(f" {way}{queue:<2}[").append(bar, "bold").append("]")
        share = f"{ring.hardware}/{ring.size}" if ring.size else "off"
        return two(text, f"{share:>8}{rate(ring.per_second):>5}", columns)

    def draw(columns: int, height: int) -> Sequence[Line]:
        if not queues:
            return [" no ring is on"]
        shown = _choose(queues, height, lambda q: sum(node.delta(f"{w}_packets", q) for w in pairs))
        middle = columns // 2
        return [half("rx", q, middle).append_text(half("tx", q, columns - middle)) for q in shown]

    title = "rings: H head  T tail  # the NIC's  D done  . the driver's"
    return Box(title, draw, max(len(queues), 1), 2 if len(queues) > 2 else 0, note="NIC's   /s")


def _choose(numbers: list[int], room: int, weight: object) -> list[int]:
    """The busiest ``room`` of ``numbers``, in their order."""
    assert callable(weight)
    return sorted(sorted(numbers, key=lambda n: (-weight(n), n))[:room])


def _vectors(view: MachineView, node: NodeView) -> Box:
    """A line for each vector: cause and mask bits, rates, moderation."""
    rows = nicfacts.vectors(node)

    def line(vector: nicfacts.Vector) -> str:
        use = nicfacts.vector_use(view, vector.number)
        bits = f"{vector.pending:>5} {vector.enabled:>5} {vector.held:>5}"
        rates = f"{rate(vector.causes):>8} {rate(vector.sent):>8} {rate(vector.moderated):>9}"
        return f" {vector.number:>3} {use:<10}{bits} {rates}   {vector.itr_us:>8.1f}"

    def draw(columns: int, height: int) -> Sequence[Line]:
        if not rows:
            return [" no vector is enabled"]
        chosen = _choose([row.number for row in rows], height, lambda n: node.delta("causes", n))
        return [line(row) for row in rows if row.number in chosen]

    title = "vector         EICR  EIMS   PBA  causes/s    MSI/s   delayed/s  EITR us"
    return Box(title, draw, max(len(rows), 1), min(max(len(rows), 1), 3))


def _rates(node: NodeView) -> Box:
    """Sparklines of frames and interrupts."""

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines = []
        for name, field in (("rx", "rx_frames_in"), ("tx", "tx_frames_out"), ("MSI", "msi_out")):
            values = node.series(field, None, _COLUMNS, SLOW_PERIOD_NS, slow=True)
            line = Text(f" {name:<4} ").append(spark(values), "bold")
            lines.append(two(line, f"{rate(node.rate(field)):>7}/s ", columns))
        return lines

    return Box("last 15 s, a column is 1/4 s", draw, 3, note="now")


def _drops(node: NodeView) -> Box:
    """Places where frames ended."""
    found = nicfacts.drops(node)

    def draw(columns: int, height: int) -> Sequence[Line]:
        if not found:
            return [" no frame was dropped here"]
        return [
            two(f" {d.words}", f"{count(d.frames)} ({rate(d.per_second)}/s) ", columns)
            for d in found[:height]
        ]

    return Box("frames dropped, by reason", draw, 2, 1, grows=True)


def _dma(node: NodeView) -> Box:
    """Traffic on PCIe."""
    r = node.rate
    lines = [
        f" reads {rate(r('dma_reads'))}/s  writes {rate(r('dma_writes'))}/s"
        f"  refused {count(node.get('dma_refused'))}",
        f" registers: {rate(r('mmio_writes'))} writes/s  {rate(r('mmio_reads'))} reads/s",
        f" MSIs lost: {node.get('msi_lost_peer_dead')} apic dead, "
        f"{node.get('msi_lost_peer_full')} apic full",
    ]
    return Box("DMA and PCIe", static(lines), 3, 1)
