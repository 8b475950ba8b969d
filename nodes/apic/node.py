"""The interrupt controller: takes MSIs, INTx and ICR writes, sends interrupt messages to CPUs.

It knows only ids and messages: which CPU accepts what is the business of each local APIC. Messages
to a CPU that cannot take them are counted by name. A decoded (address, data) pair is kept, since a
NIC sends the same few again and again; arbitrated ones are decided anew each time.

The root ports of the PCIe slots (``rootports``) are here too, because it is here that a NIC's
process is seen to go and come, and that messages are decoded, theirs as any other.

CPUs reach the I/O APIC by memory writes and reads to its page (``bar`` 0), as they reach a NIC's.

Left out: interrupt remapping, an 8259 (nobody answers the ExtINT that a CPU may get).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bus.faults import APIC, KINDS
from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    EoiBroadcast,
    Fault,
    IcrWrite,
    Interrupt,
    IntxMessage,
    LocalApicId,
    MemRead,
    MemWrite,
    MsiWrite,
    PeerBack,
    PeerLost,
    PeerSilent,
    SlotPower,
    Snapshot,
)
from bus.node import Inbox, Node, Surroundings
from bus.recorder import Recorder
from nodes.answers import answer
from nodes.apic import ipi, msi, trace
from nodes.apic.destination import Destinations
from nodes.apic.intx import Wires
from nodes.apic.ioapic import IoApic
from nodes.apic.page import (
    APIC_SCHEMA,
    CPUS_MAX,
    DROP_NUMBERS,
    LAST_ROWS,
    NICS_MAX,
)
from nodes.apic.rootports import RootPorts
from nodes.apic.slots import Outside
from nodes.faults import Faults
from nodes.machine import CONTROL, PORTS, MachineSettings

ROUTES_KEPT = 1024
TABLE_ROWS = 4096
_OTHERS = 255
_CPU_SOURCE, _PIN_SOURCE = 64, 128

_MSI_IN = APIC_SCHEMA.index("msi_in")
_MSI_COPIES = APIC_SCHEMA.index("msi_copies")
_MSI_ROUTED = APIC_SCHEMA.index("msi_routed")
_IPI_IN = APIC_SCHEMA.index("ipi_in")
_IPI_COPIES = APIC_SCHEMA.index("ipi_copies")
_IPI_ROUTED = APIC_SCHEMA.index("ipi_routed")
_KIND = {mode: APIC_SCHEMA.index(f"ipi_{kind}") for mode, kind in ipi.KIND.items()}
_INTX_IN = APIC_SCHEMA.index("intx_in")
_INTX_DEASSERT_IN = APIC_SCHEMA.index("intx_deassert_in")
_IOAPIC_COPIES = APIC_SCHEMA.index("ioapic_copies")
_IOAPIC_ROUTED = APIC_SCHEMA.index("ioapic_routed")
_EOI_IN = APIC_SCHEMA.index("eoi_in")
_IOAPIC_READS = APIC_SCHEMA.index("ioapic_reads")
_IOAPIC_WRITES = APIC_SCHEMA.index("ioapic_writes")
_PORT_MSI = APIC_SCHEMA.index("port_msi")
_PORT_ACCESSES = APIC_SCHEMA.index("port_accesses")
_DROPS = {name: (APIC_SCHEMA.index(name), number) for name, number in DROP_NUMBERS.items()}
_LOST = {True: APIC_SCHEMA.index("lost_dead"), False: APIC_SCHEMA.index("lost_full")}
_VECTORS = APIC_SCHEMA.index("vectors")
_LAST_COUNT = APIC_SCHEMA.index("last_count")
_LAST = APIC_SCHEMA.index("last")
_UNEXPECTED = APIC_SCHEMA.index("unexpected")
_ALL_ONES = 0xFFFF_FFFF
_DUP_FAULT = APIC_SCHEMA.index("msi_dup_fault")
_LOSE_MSI, _DUP_MSI = KINDS["lose-msi"].number, KINDS["dup-msi"].number


class Route(NamedTuple):
    """Where a message goes: CPUs, and the one message that each of them gets."""

    cpus: tuple[int, ...]
    message: Interrupt
    drop: str


class ApicNode(Node):
    """The interrupt controller of a machine of at most 64 CPUs."""

    def __init__(self, around: Surroundings, machine: MachineSettings) -> None:
        super().__init__(around)
        if machine.cpus > CPUS_MAX or len(machine.nics) > NICS_MAX:
            raise ValueError(f"the interrupt controller knows {CPUS_MAX} CPUs and {NICS_MAX} NICs")
        self.page = self.ram.page(self.name, APIC_SCHEMA)
        self.machine = machine
        self._words = self.page.words
        self._recorder = Recorder(self.ram.recorder_words(self.name))
        self._trace = 0
        self._now_ns = 0
        self._cpu_names = machine.cpu_names
        self._cpu_number = {name: n for n, name in enumerate(machine.cpu_names)}
        self._nic_number = {name: n for n, name in enumerate(machine.nic_names)}
        self._destinations = Destinations(machine.cpus)
        self._routes: dict[tuple[int, int], Route] = {}
        self.ioapic = IoApic(self._words, self._pin)
        self._wires = Wires(self._words, machine, self.ioapic.set_line)
        outside = Outside(self._port_message, self._slot_power)
        self.ports = RootPorts(self._words, machine.nics, outside, self._port_changed)
        self._handlers: dict[type, Callable[[str, Any], bool]] = {
            IntxMessage: self._on_intx,
            EoiBroadcast: self._on_eoi,
            MemWrite: self._on_write,
            MemRead: self._on_read,
            LocalApicId: self._on_local_apic_id,
            CfgRead: self._on_config_read,
            CfgWrite: self._on_config_write,
            PeerLost: self._on_peer_lost,
            PeerBack: self._on_peer_back,
            PeerSilent: lambda sender, message: True,
        }
        self.faults = Faults(
            self._words, APIC_SCHEMA.index("faults"), APIC, around.rng, self._fault_changed
        )
        #: (source, vector, CPU) -> messages, for the snapshot
        self.table: dict[tuple[str, int, int], int] = {}

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        self._now_ns = self.clock()
        self._trace = self._recorder.mask
        if self._now_ns >= self.faults.until_ns:
            self.faults.expire(self._now_ns)
        if self.ports.wake_ns is not None and self._now_ns >= self.ports.wake_ns:
            self.ports.expire(self._now_ns)
        for sender, message in inbox:
            kind = type(message)
            if kind is MsiWrite:
                self._msi(sender, message)
            elif kind is IcrWrite and sender in self._cpu_number:
                self._ipi(sender, message.icr)
            elif kind is Snapshot:
                self.post(sender, answer(message, SNAPSHOTS, self))
            elif kind is Fault and sender == CONTROL:
                self.post(sender, self.faults.take(message, self._now_ns))
            elif kind not in self._handlers or not self._handlers[kind](sender, message):
                self._words[_UNEXPECTED] += 1
        self.steps = len(inbox)
        return self.faults.sooner(self.ports.wake_ns)

    # -- MSI

    def _msi(self, sender: str, message: MsiWrite) -> None:
        words = self._words
        source = self._nic_number.get(sender, NICS_MAX)
        words[_MSI_IN + source] += 1
        if self._trace >> trace.MSI & 1:
            self._recorder.record(self._now_ns, trace.MSI, source, message.address, message.data)
        if self.faults.on:
            if self.faults.on >> _LOSE_MSI & 1 and self.faults.hits(_LOSE_MSI):
                self._drop("msi_lost_fault")
                return
            if self.faults.on >> _DUP_MSI & 1 and self.faults.hits(_DUP_MSI):
                words[_MSI_COPIES] += 1
                words[_DUP_FAULT] += 1
                self._route(sender, source, message)
        self._route(sender, source, message)

    def _route(self, sender: str, source: int, message: MsiWrite) -> None:
        words = self._words
        route = self._routes.get(message)
        if route is None:
            route = self._decode(message)
        if route.drop:
            self._drop(route.drop)
            return
        words[_MSI_COPIES] += len(route.cpus) - 1
        for cpu in route.cpus:
            words[_MSI_ROUTED + cpu] += 1
            self._hand_over(sender, source if source < NICS_MAX else _OTHERS, cpu, route.message)

    def _fault_changed(self, kind: int, on: bool) -> None:
        self._recorder.record(self._now_ns, trace.FAULT, a=kind, b=int(on))

    def _decode(self, message: MsiWrite) -> Route:
        wanted = msi.decode(message.address, message.data)
        route = self._resolve(wanted, "msi_drop_no_target")
        if wanted.one:
            return route
        if len(self._routes) >= ROUTES_KEPT:
            self._routes.clear()
        self._routes[message] = route
        return route

    def _resolve(self, wanted: msi.Decoded, no_target: str) -> Route:
        """Who gets it now."""
        cpus: tuple[int, ...] = ()
        if not wanted.drop:
            cpus = self._destinations.match(wanted.destination, wanted.logical)
            if wanted.one:
                cpus = self._destinations.arbitrate(cpus)
        mode = msi.FIXED if wanted.mode == msi.LOWEST else wanted.mode
        interrupt = Interrupt(wanted.vector, mode, wanted.trigger)
        return Route(cpus, interrupt, wanted.drop or ("" if cpus else no_target))

    # -- INTx and the I/O APIC

    def _on_intx(self, sender: str, message: IntxMessage) -> bool:
        nic = self._nic_number.get(sender)
        if nic is None:
            return False
        self._words[(_INTX_IN if message.asserted else _INTX_DEASSERT_IN) + nic] += 1
        if self._trace >> trace.INTX & 1:
            self._recorder.record(self._now_ns, trace.INTX, nic, message.pin, message.asserted)
        self._wires.message(nic, message.pin, bool(message.asserted))
        return True

    def _on_peer_lost(self, sender: str, _event: PeerLost) -> bool:
        nic = self._nic_number.get(sender)
        if nic is not None:
            self._wires.port_down(nic)
            self.ports.card_gone(nic)
        return True

    def _on_peer_back(self, sender: str, _event: PeerBack) -> bool:
        nic = self._nic_number.get(sender)
        if nic is not None:
            self.ports.card_in(nic, self._now_ns)
        return True

    # -- root ports

    def _on_config_read(self, sender: str, message: CfgRead) -> bool:
        if not self._from_cpu(sender):
            return False
        value = self.ports.read(message.function, message.offset, message.size_bytes)
        self.post(sender, Completion(message.tag, value))
        return True

    def _on_config_write(self, sender: str, message: CfgWrite) -> bool:
        if not self._from_cpu(sender):
            return False
        at, size = message.offset, message.size_bytes
        self.ports.write(message.function, at, size, message.value, self._now_ns)
        self.post(sender, Completion(message.tag, 0))
        return True

    def _from_cpu(self, sender: str) -> bool:
        cpu = self._cpu_number.get(sender)
        if cpu is None:
            return False
        self._words[_PORT_ACCESSES + cpu] += 1
        return True

    def _port_message(self, slot: int, address: int, data: int) -> None:
        """A root port's MSI goes the way of all messages."""
        self._words[_PORT_MSI + slot] += 1
        name = self.machine.pci_function(PORTS + slot).pci_name
        self._msi(name, MsiWrite(address, data))

    def _slot_power(self, slot: int, on: bool) -> None:
        self.post(self.machine.nics[slot].name, SlotPower(int(on)))

    def _port_changed(self, slot: int, state: int, status: int) -> None:
        if self._trace >> trace.SLOT & 1:
            self._recorder.record(self._now_ns, trace.SLOT, slot, state, status)

    def _pin(self, pin: int, wanted: msi.Decoded) -> bool:
        """The message of an I/O APIC pin; False if nobody gets it."""
        words = self._words
        route = self._resolve(wanted, "ioapic_drop_no_target")
        if route.drop:
            self._drop(route.drop)
            return False
        words[_IOAPIC_COPIES] += len(route.cpus) - 1
        for cpu in route.cpus:
            words[_IOAPIC_ROUTED + cpu] += 1
            self._hand_over(f"pin{pin}", _PIN_SOURCE + pin, cpu, route.message)
        return True

    def _on_eoi(self, sender: str, message: EoiBroadcast) -> bool:
        cpu = self._cpu_number.get(sender)
        if cpu is None:
            return False
        self._words[_EOI_IN + cpu] += 1
        if self._trace >> trace.EOI & 1:
            self._recorder.record(self._now_ns, trace.EOI, cpu, message.vector)
        self.ioapic.eoi(message.vector)
        return True

    def _on_write(self, sender: str, message: MemWrite) -> bool:
        cpu = self._cpu_number.get(sender)
        if cpu is None or message.bar:
            return False
        self._words[_IOAPIC_WRITES + cpu] += 1
        if self._trace >> trace.IOAPIC_WRITE & 1:
            self._recorder.record(
                self._now_ns, trace.IOAPIC_WRITE, cpu, message.offset, message.value
            )
        self.ioapic.write(message.offset, message.value)
        return True

    def _on_read(self, sender: str, message: MemRead) -> bool:
        cpu = self._cpu_number.get(sender)
        if cpu is None:
            return False
        self._words[_IOAPIC_READS + cpu] += 1
        value = _ALL_ONES if message.bar else self.ioapic.read(message.offset)
        if self._trace >> trace.IOAPIC_READ & 1:
            self._recorder.record(self._now_ns, trace.IOAPIC_READ, cpu, message.offset, value)
        self.post(sender, Completion(message.tag, value))
        return True

    # -- IPI

    def _on_local_apic_id(self, sender: str, message: LocalApicId) -> bool:
        cpu = self._cpu_number.get(sender)
        if cpu is None:
            return False
        if self._destinations.learn(cpu, message):
            self._routes.clear()
        return True

    def _ipi(self, sender: str, icr: int) -> None:
        words = self._words
        source = self._cpu_number[sender]
        words[_IPI_IN + source] += 1
        if self._trace >> trace.IPI & 1:
            self._recorder.record(self._now_ns, trace.IPI, source, icr)
        x2apic = bool(self._destinations.apics[source].x2apic)
        command = ipi.decode(icr, x2apic)
        cpus = self._targets(source, command, x2apic)
        if command.drop or not cpus:
            self._drop(command.drop or "ipi_drop_no_target")
            return
        mode = msi.FIXED if command.mode == msi.LOWEST else command.mode
        message = Interrupt(command.vector, mode, 0)
        words[_IPI_COPIES] += len(cpus) - 1
        words[_KIND[command.mode]] += len(cpus)
        for cpu in cpus:
            words[_IPI_ROUTED + cpu] += 1
            self._hand_over(sender, _CPU_SOURCE + source, cpu, message)

    def _targets(self, source: int, command: ipi.Command, x2apic: bool) -> tuple[int, ...]:
        if command.shorthand == ipi.NO_SHORTHAND:
            cpus = self._destinations.match(command.destination, command.logical, x2apic)
        elif command.shorthand == ipi.SELF:
            return (source,)
        else:
            everybody = tuple(range(self.machine.cpus))
            if command.shorthand == ipi.ALL:
                return everybody
            cpus = everybody[:source] + everybody[source + 1 :]
        return self._destinations.arbitrate(cpus) if command.mode == msi.LOWEST else cpus

    # -- both

    def _hand_over(self, sender: str, source: int, cpu: int, message: Interrupt) -> None:
        words = self._words
        vector = message.vector
        words[_VECTORS + vector] += 1
        count = words[_LAST_COUNT]
        at = _LAST + count % LAST_ROWS * 2
        words[at] = self._now_ns
        words[at + 1] = source | cpu << 16 | vector << 32 | message.delivery_mode << 40
        words[_LAST_COUNT] = count + 1
        key = (sender, vector, cpu)
        sent = self.table.get(key, 0)
        if sent or len(self.table) < TABLE_ROWS:
            self.table[key] = sent + 1
        if self._trace >> trace.ROUTE & 1:
            self._recorder.record(
                self._now_ns, trace.ROUTE, a=vector | message.delivery_mode << 8, b=cpu
            )
        self.post(self._cpu_names[cpu], message)

    def _drop(self, reason: str) -> None:
        word, number = _DROPS[reason]
        self._words[word] += 1
        if self._trace >> trace.DROP & 1:
            self._recorder.record(self._now_ns, trace.DROP, a=number)

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        cpu = self._cpu_number.get(peer)
        if cpu is not None:
            self._words[_LOST[dead] + cpu] += sum(type(m) is Interrupt for m in messages)


def _state(apic: ApicNode) -> dict[str, Any]:
    """Routing table: [source, vector, CPU, messages], the busiest first, at most 512 rows."""
    rows = sorted(apic.table.items(), key=lambda item: (-item[1], item[0]))
    return {
        "cpus": apic.machine.cpus,
        "redirection": apic.ioapic.entries,
        "lines": apic.ioapic.lines,
        "table": [[source, vector, cpu, n] for (source, vector, cpu), n in rows[:512]],
    }


SNAPSHOTS = {"state": _state}
