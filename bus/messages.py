"""The vocabulary: every message that may cross the bus, one small frozen class each.

A message is a ``NamedTuple`` whose annotations carry the allowed range or size of each field; the
codec derives its validation from them, so this file is the whole protocol. Units stand in the
names. Three worlds share the bus:

* **PCIe**: posted writes, reads with their completions, configuration space, MSI writes, INTx;
* **interrupts**: ICR writes and EOIs from a CPU, interrupt messages to a CPU;
* **Ethernet**: frames and the state of the light on the fibre;

and the orchestrator speaks to every node through the **control** messages. A device whose machine
is a virtual one (``bus.vfio_user``) has a port to that guest in place of CPUs and interrupt
controller; what they say to each other beyond PCIe never crosses the bus either. ``PeerLost`` and
``PeerBack`` never cross the bus: a runtime puts them into the inbox of a node when the link to
another node dies or comes (back) to life, as a PCIe root port or a PHY notices such things.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

FRAME_BYTES_MAX = 9728
SNAPSHOT_BYTES_MAX = 65536
TEXT_CHARS_MAX = 8192
CPU_MASK_ALL = 0xFFFF_FFFF_FFFF_FFFF
#: To a device of a machine that is a guest, its CPUs and interrupt controller are one peer.
GUEST = "@guest"
#: Name of the orchestrator on the bus.
CONTROL = "ctl"
#: What the last port of a machine's switch is plugged into, where that is outside of the machine.
UPLINK = "@uplink"


class Between(NamedTuple):
    """Inclusive range of an integer field."""

    low: int
    high: int


class AtMost(NamedTuple):
    """Largest length of a ``bytes``, ``str`` or ``list`` field."""

    length: int


U1 = Annotated[int, Between(0, 1)]
U8 = Annotated[int, Between(0, 0xFF)]
U32 = Annotated[int, Between(0, 0xFFFF_FFFF)]
U64 = Annotated[int, Between(0, 0xFFFF_FFFF_FFFF_FFFF)]
Name = Annotated[str, AtMost(64)]
Text = Annotated[str, AtMost(TEXT_CHARS_MAX)]
Frame = Annotated[bytes, AtMost(FRAME_BYTES_MAX)]
Blob = Annotated[bytes, AtMost(SNAPSHOT_BYTES_MAX)]
Words = Annotated[tuple[str, ...], AtMost(64)]


@runtime_checkable
class Message(Protocol):
    """What every message class has: its number on the wire, and being a tuple of its fields."""

    CODE: ClassVar[int]
    _fields: ClassVar[tuple[str, ...]]

    def __iter__(self) -> Any: ...


# ---------------------------------------------------------------- PCIe


class MemWrite(NamedTuple):
    """Posted 32-bit memory write by a CPU to a BAR of a device; to the interrupt controller:
    ``bar`` 0 is the I/O APIC's page, at 0xFEC00000."""

    bar: U8
    offset: U32
    value: U32


class MemRead(NamedTuple):
    """32-bit memory read by a CPU; the device answers with ``Completion`` of the same tag."""

    tag: U32
    bar: U8
    offset: U32


class CfgRead(NamedTuple):
    """Configuration space read of ``size_bytes`` (1, 2 or 4); answered by ``Completion``. At the
    interrupt controller ``function`` is the root port of that slot; a NIC has only 0."""

    tag: U32
    offset: Annotated[int, Between(0, 0xFFF)]
    size_bytes: Annotated[int, Between(1, 4)]
    function: U8 = 0


class CfgWrite(NamedTuple):
    """Configuration space write (non-posted); answered by ``Completion`` with value 0."""

    tag: U32
    offset: Annotated[int, Between(0, 0xFFF)]
    size_bytes: Annotated[int, Between(1, 4)]
    value: U32
    function: U8 = 0


class Completion(NamedTuple):
    """Answer of a device to the read or configuration request ``tag``."""

    tag: U32
    value: U32


class MsiWrite(NamedTuple):
    """A device's posted write to the interrupt window 0xFEEx_xxxx: the interrupt itself."""

    address: U64
    data: U32


class IntxMessage(NamedTuple):
    """Assert_INTx (1) or Deassert_INTx (0): a function's virtual wire, ``pin`` 1 to 4 for INTA to
    INTD, changes its level at the interrupt controller. Two alike in a row equal one."""

    pin: Annotated[int, Between(1, 4)]
    asserted: U1


class SlotPower(NamedTuple):
    """What a slot gives its card: power and a link (1), or not (0). A card that is not told has
    both."""

    on: U1


# ---------------------------------------------------------------- interrupts


class IcrWrite(NamedTuple):
    """A CPU writes its interrupt command register: an IPI. The layout is that of the CPU's mode:
    destination in 63:56, or in 63:32 once it has said that it is in x2APIC mode."""

    icr: U64


class EoiBroadcast(NamedTuple):
    """A local APIC ended a level-triggered vector: I/O APICs look at their lines again."""

    vector: U8


class LocalApicId(NamedTuple):
    """How messages find a local APIC: what its software wrote last. ``ldr`` is the whole register,
    ``flat`` the model of DFR, ``enabled`` the software enable bit."""

    apic_id: U32
    ldr: U32
    flat: U1
    x2apic: U1
    enabled: U1


class Interrupt(NamedTuple):
    """Interrupt message to one local APIC; modes as in the delivery and trigger fields of MSI."""

    vector: U8
    delivery_mode: Annotated[int, Between(0, 7)]
    trigger_mode: U1


# ---------------------------------------------------------------- Ethernet


class EthFrame(NamedTuple):
    """One frame on the wire, destination address to payload, without preamble and FCS."""

    frame: Frame


class BadFrame(NamedTuple):
    """A frame whose bits flipped on the wire: its FCS is wrong and the receiver must not trust it.
    The bytes are those that were sent, so that both ends count the same packet."""

    frame: Frame


class LinkState(NamedTuple):
    """Light on the fibre: what the far end of a cable does to the receiver at this end."""

    up: U1
    speed_mbps: U32


# ---------------------------------------------------------------- control (orchestrator <-> node)


class Snapshot(NamedTuple):
    """Ask a node for a plain value (see each node's ``snapshot``); answered by ``Reply``."""

    request: U32
    what: Name


class Reply(NamedTuple):
    """Answer to a control request: ``ok`` and a MessagePack value of at most 64 KiB."""

    request: U32
    ok: U1
    value: Blob


class Spawn(NamedTuple):
    """Run a program of the emulated machine as a task of this CPU; its id is ``request``.

    ``cpus_allowed``, a bit for each CPU, is where it may be when this CPU goes offline. ``hosts``
    are lines of /etc/hosts (``192.168.1.12 m2``) beside those that the machine has itself."""

    request: U32
    argv: Words
    cpus_allowed: U64 = CPU_MASK_ALL
    hosts: Words = ()


class Signal(NamedTuple):
    """Send a signal (Linux's number) to the task that was spawned as ``request``.

    A CPU that does not run that task (any more) sends the message back as it is."""

    request: U32
    signo: Annotated[int, Between(1, 64)]


class TaskOutput(NamedTuple):
    """What a spawned task wrote: ``stream`` 1 is stdout, 2 stderr."""

    request: U32
    stream: Annotated[int, Between(1, 2)]
    text: Text


class TaskExit(NamedTuple):
    """A spawned task ended with this exit code."""

    request: U32
    code: U8


class TaskMoved(NamedTuple):
    """The last word of a CPU about a task: ``cpu`` runs it from here on, and speaks for it."""

    request: U32
    cpu: Name


class Cable(NamedTuple):
    """A hand at the switch: cable of ``port`` (a NIC's name) in or out; answered by ``Reply``."""

    request: U32
    port: Name
    inserted: U1


class Fault(NamedTuple):
    """A part of this device breaks (``on`` 1) or is mended (0, kind "" means all of them); kinds
    and what ``value`` says: ``bus.faults``. ``for_ns`` 0: until it is mended. ``port``: which port
    of the switch, by its name. Answered by ``Reply`` with the number of faults that were mended."""

    request: U32
    kind: Name
    value: U64
    for_ns: U64
    on: U1
    port: Name = ""


class Heartbeat(NamedTuple):
    """Are you alive? Answered by the runtime itself with ``HeartbeatAck``, not by the node."""

    sequence: U64


class HeartbeatAck(NamedTuple):
    """The runtime of the node is alive."""

    sequence: U64


class Shutdown(NamedTuple):
    """End this node: the runtime leaves its loop and the process exits with 0."""

    request: U32


# ---------------------------------------------------------------- events of the runtime


class PeerLost(NamedTuple):
    """Local event: the link to the peer (the sender of this event) is gone."""

    incarnation: U64


class PeerBack(NamedTuple):
    """Local event: the peer (the sender of this event) can be reached, as this incarnation."""

    incarnation: U64


class PeerSilent(NamedTuple):
    """Local event: the peer exists but does not answer heartbeats. Marks the display only."""

    incarnation: U64


# ---------------------------------------------------------------- a guest's port (local)


class GuestMap(NamedTuple):
    """Local request: ``memory`` is the guest's from bus address ``address`` on; None: it could not
    be mapped. Answered, as all requests of a port with a tag, by ``Completion`` with an errno."""

    tag: U32
    address: U64
    size: U64
    writable: bool
    memory: memoryview | None


class GuestUnmap(NamedTuple):
    """Local request: exactly this piece of the guest's memory goes."""

    tag: U32
    address: U64
    size: U64


class GuestVectors(NamedTuple):
    """Local request: ``armed`` are the vectors of MSI (``kind`` 1) or MSI-X (2) that somebody
    waits for, a bit for each."""

    tag: U32
    kind: U8
    armed: U64


class GuestReset(NamedTuple):
    """Local request: reset the function."""

    tag: U32


class GuestTrigger(NamedTuple):
    """Local event, of a device to a guest's port: vector ``vector`` of MSI (``kind`` 1) or
    MSI-X (2) is raised."""

    kind: U8
    vector: U8


#: Number on the wire of each message class. Numbers are never used again for something else.
WIRE: dict[int, type[Any]] = {
    1: MemWrite,
    2: MemRead,
    3: CfgRead,
    4: CfgWrite,
    5: Completion,
    6: MsiWrite,
    7: IntxMessage,
    8: SlotPower,
    16: IcrWrite,
    17: Interrupt,
    18: EoiBroadcast,
    19: LocalApicId,
    32: EthFrame,
    33: LinkState,
    34: BadFrame,
    48: Snapshot,
    49: Reply,
    50: Spawn,
    51: Signal,
    52: TaskOutput,
    53: TaskExit,
    54: Cable,
    55: Heartbeat,
    56: HeartbeatAck,
    57: Shutdown,
    58: TaskMoved,
    59: Fault,
}
LOCAL_EVENTS: tuple[type[Any], ...] = (
    PeerLost, PeerBack, PeerSilent,
    GuestMap, GuestUnmap, GuestVectors, GuestReset, GuestTrigger,
)  # fmt: skip

for _code, _message in WIRE.items():
    _message.CODE = _code
