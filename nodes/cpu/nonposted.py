"""Non-posted accesses of a core: registers of a NIC or the I/O APIC, configuration space.

Such an access stalls the core (no context runs, vectors only set IRR) until the completion with
its tag arrives, or all ones do: at once when the device's link is lost, else after the completion
timeout, as a root port ends it. A core has one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bus.messages import CfgRead, CfgWrite, Completion, MemRead, MemWrite, PeerBack, PeerLost
from nodes.cpu.kernel.percpu import ALL_ONES, ConfigAccess, IoApicRead, MmioRead
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import APIC, PORTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_STALLED_ON = CPU_SCHEMA.index("stalled_on")
_IOAPIC_READS = CPU_SCHEMA.index("ioapic_reads")
_IOAPIC_TIMEOUTS = CPU_SCHEMA.index("ioapic_timeouts")
_PORT_ACCESSES = CPU_SCHEMA.index("port_accesses")
_READS = CPU_SCHEMA.index("mmio_reads")
_ONES = CPU_SCHEMA.index("mmio_all_ones")
_TIMEOUTS = CPU_SCHEMA.index("mmio_timeouts")
_LOST = CPU_SCHEMA.index("mmio_lost")
_MMIO_READ = TRACEPOINTS["mmio_read"].number


class Stall:
    """The access the core waits for: of a NIC, or (-1) of the interrupt controller."""

    def __init__(self, tag: int, nic: int, deadline_ns: int) -> None:
        self.tag = tag
        self.nic = nic
        self.deadline_ns = deadline_ns


class NonPosted:
    """The core's way to the devices; ``tell`` hears the value that ends a stall."""

    def __init__(self, cpu: Cpu, tell: Callable[[int], None]) -> None:
        self._cpu = cpu
        self._tell = tell
        self._nics = {name: i for i, name in enumerate(cpu.machine.nic_names)}
        self._names = cpu.machine.nic_names
        self._timeout_ns = cpu.machine.completion_timeout_ms * 1_000_000
        self._tag = 0
        self.stall: Stall | None = None

    # -- the core's side

    def start(self, op: IoApicRead | MmioRead | ConfigAccess) -> int | None:
        """Begin an access: None, it stalls; or its value at once, because the link is lost."""
        cpu, words = self._cpu, self._cpu.words
        if isinstance(op, IoApicRead):
            words[_IOAPIC_READS] += 1
            self._wait_for(APIC, -1, MemRead(self._next_tag(), 0, op.offset))
            return None
        nic = op.nic
        if nic >= PORTS:  # whose configuration space is in the interrupt controller's process
            assert isinstance(op, ConfigAccess)
            words[_PORT_ACCESSES] += 1
            node, function, _ = cpu.machine.pci_function(nic)
            self._wait_for(node, -1, _config_request(self._next_tag(), op, function))
            return None
        words[_READS + nic] += 1
        if cpu.lost_nics[nic]:
            words[_ONES + nic] += 1
            return ALL_ONES
        if isinstance(op, MmioRead):
            cpu.trace(_MMIO_READ, nic, op.offset)
            self._wait_for(self._names[nic], nic, MemRead(self._next_tag(), op.bar, op.offset))
        else:
            self._wait_for(self._names[nic], nic, _config_request(self._next_tag(), op))
        words[_STALLED_ON] = nic + 1
        return None

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) & 0xFFFF_FFFF
        return self._tag

    def _wait_for(self, node: str, nic: int, message: MemRead | CfgRead | CfgWrite) -> None:
        """Send it, and stall."""
        self._cpu.post(node, message)
        self.stall = Stall(message.tag, nic, self._cpu.now() + self._timeout_ns)

    def timed_out(self, stall: Stall) -> bool:
        """End the stall if its time is out."""
        if self._cpu.now() < stall.deadline_ns:
            return False
        word = _IOAPIC_TIMEOUTS if stall.nic < 0 else _TIMEOUTS + stall.nic
        self._cpu.words[word] += 1
        self._end(ALL_ONES)
        return True

    def _end(self, value: int) -> None:
        self.stall = None
        self._cpu.words[_STALLED_ON] = 0
        self._tell(value)

    # -- the bus's side

    def completed(self, _sender: str, message: Completion) -> None:
        """A completion; one that nobody waits for is dropped, as a root port drops it."""
        if self.stall is not None and message.tag == self.stall.tag:
            self._end(message.value)

    def peer_lost(self, sender: str, _event: PeerLost) -> None:
        """A link goes down; a read on its way over it comes back as all ones."""
        nic = self._nics.get(sender)
        if nic is None:
            return
        self._cpu.lost_nics[nic] = True
        if self.stall is not None and self.stall.nic == nic:
            self._link_failed(nic)

    def peer_back(self, sender: str, _event: PeerBack) -> None:
        nic = self._nics.get(sender)
        if nic is not None:
            self._cpu.lost_nics[nic] = False

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        """Posted writes that nobody took; a read among them fails as the link does."""
        nic = self._nics.get(peer)
        if nic is None:
            return
        for message in messages:
            if isinstance(message, MemWrite):
                self._cpu.words[_LOST + nic] += 1
            elif dead and self.stall is not None and self.stall.tag == message.tag:
                self._link_failed(nic)

    def _link_failed(self, nic: int) -> None:
        self._cpu.words[_ONES + nic] += 1
        self._end(ALL_ONES)


def _config_request(tag: int, op: ConfigAccess, function: int = 0) -> CfgRead | CfgWrite:
    if op.value is None:
        return CfgRead(tag, op.offset, op.size_bytes, function)
    return CfgWrite(tag, op.offset, op.size_bytes, op.value, function)
