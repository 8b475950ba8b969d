"""What a machine is made of, as plain values that every room of ``nodes`` may read.

The orchestrator makes these from a TOML file; nodes get them when they are built. Nothing here says
where or how a node runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple

from bus.messages import CONTROL as CONTROL  # noqa: PLC0414  (names as those below are)
from bus.messages import GUEST as GUEST  # noqa: PLC0414
from bus.messages import UPLINK as UPLINK  # noqa: PLC0414
from bus.ram import Layout

APIC = "apic"
LAN = "lan"
#: Name of the gateway's port of the switch; no node, but faults may befall its cable.
GATEWAY = "gateway"
LOCALHOST = "localhost"
#: Peers of the LAN that are no nodes of the machine have names that begin so: ``UPLINK``, and
#: machines that joined (``@m2``).
OUTSIDE = "@"

QUEUES_MAX = 16
#: Global system interrupts: pins of the I/O APIC. PCI's virtual wires end at 16 to 23.
IOAPIC_PINS, FIRST_PCI_GSI = 24, 16
#: Entries of a ring: what a driver starts with, and the most that ``ethtool -G`` gives it.
RING_ENTRIES, RING_ENTRIES_MAX = 512, 4096
#: DMA area for each queue pair: two rings, and a 2 KiB buffer for each of their entries. It has
#: room for the largest rings; what is never used takes no memory.
QUEUE_DMA_BYTES = 2 * RING_ENTRIES_MAX * (16 + 2048)
_QUEUE_UNUSED_BYTES = 2 * (RING_ENTRIES_MAX - RING_ENTRIES) * (16 + 2048)
#: Each has a bit of its own: RSS hashes are linear, so the more bits differ, the more queues the
#: eight addresses reach, whatever the key is.
GATEWAY_ADDRESSES = tuple(f"192.168.1.{1 << bit}" for bit in range(8))
#: Loss and traffic are accounted in three classes (see ``nodes.ledger``).
CLASSES = ("other", "request", "reply")


#: Number by which a CPU knows the root port of a slot: PORTS + the slot. NIC n is just n.
PORTS = 64
#: Root ports are the functions of device 1Ch on bus 0, as in Intel's chipsets.
PORT_DEVICE = 0x1C


class PciFunction(NamedTuple):
    """Who answers for a PCI function: a node, and which of its functions. ``devid`` is its bus,
    device and function number as 16 bits."""

    node: str
    function: int
    devid: int

    @property
    def pci_name(self) -> str:
        return f"0000:{self.devid >> 8:02x}:{self.devid >> 3 & 31:02x}.{self.devid & 7}"


class NicSettings(NamedTuple):
    """One 82599 in one PCIe slot; ``slot`` n is function 0000:0(n+1):00.0, behind root port
    0000:00:1c.n. ``hotplug``: cards may come and go in this slot while it has power."""

    name: str
    slot: int
    mac: bytes
    hotplug: bool = False

    @property
    def pci_name(self) -> str:
        return f"0000:{self.slot + 1:02x}:00.0"


class BondSettings(NamedTuple):
    """bond0, in bonding's own words; times in ms."""

    name: str = "bond0"
    slaves: tuple[str, ...] = ()
    mode: str = "active-backup"
    miimon: int = 100
    updelay: int = 0
    downdelay: int = 0
    use_carrier: int = 1
    primary: str = ""
    num_grat_arp: int = 1
    address: str = "192.168.1.10/24"
    primary_reselect: str = "always"
    fail_over_mac: str = "none"
    arp_interval: int = 0
    arp_ip_target: tuple[str, ...] = ()
    arp_validate: str = "none"
    arp_all_targets: str = "any"
    arp_missed_max: int = 2
    peer_notif_delay: int = 0
    resend_igmp: int = 1
    all_slaves_active: int = 0
    min_links: int = 0
    packets_per_slave: int = 1
    xmit_hash_policy: str = "layer2"
    lacp_rate: str = "slow"
    lacp_active: str = "on"
    ad_select: str = "stable"
    ad_actor_sys_prio: int = 65535
    ad_user_port_key: int = 0
    ad_actor_system: str = "00:00:00:00:00:00"
    lp_interval: int = 1
    tlb_dynamic_lb: int = 1


class GatewaySettings(NamedTuple):
    """The host behind the switch that answers ARP and ICMP echo."""

    mac: bytes = bytes.fromhex("020000000001")
    addresses: tuple[str, ...] = GATEWAY_ADDRESSES
    #: addresses that it has in tagged VLANs, as (VLAN, addresses)
    vlans: tuple[tuple[int, tuple[str, ...]], ...] = ()


class PortSettings(NamedTuple):
    """VLANs of one switch port: ``native`` without a tag (0: none), ``trunk`` with one."""

    port: str  # a NIC, a channel's member, or "gateway"
    native: int
    trunk: tuple[int, ...] = ()


class LacpSettings(NamedTuple):
    """LACP of a port-channel of the switch: ``activity`` active or passive, ``rate`` slow or fast
    (how often it wants to hear from the other end). ``keys`` and ``wrong`` are of single ports, by
    name of the NIC: another key than the channel's, a way to speak wrongly."""

    activity: str = "active"
    rate: str = "slow"
    key: int = 1
    system: bytes = bytes.fromhex("020000000002")
    system_priority: int = 32768
    port_priority: int = 32768
    keys: tuple[tuple[str, int], ...] = ()
    wrong: tuple[tuple[str, str], ...] = ()

    def port_key(self, name: str) -> int:
        return dict(self.keys).get(name, self.key)

    def port_wrong(self, name: str) -> str:
        return dict(self.wrong).get(name, "")


class ChannelSettings(NamedTuple):
    """A port-channel: its members in order, "static" or "lacp"."""

    name: str
    members: tuple[str, ...]
    mode: str = "static"
    lacp: LacpSettings = LacpSettings()


class LanSettings(NamedTuple):
    """The switch. Without ``ports`` it knows no VLANs and lets tags pass as they are."""

    ageing_s: int = 300
    ports: tuple[PortSettings, ...] = ()
    channels: tuple[ChannelSettings, ...] = ()
    #: what is behind the last port: "" the gateway of the node itself, "tap" a kernel's TAP device,
    #: "join" the switch of the machine ``join``
    uplink: str = ""
    join: str = ""

    @property
    def own_gateway(self) -> bool:
        """Is the host behind the last port the node's own?"""
        return not self.uplink


def vfio_socket(nic: str) -> str:
    """File in the run directory where a guest finds a NIC."""
    return f"{nic}.vfio"


class MachineSettings(NamedTuple):
    """A whole machine. ``era`` names a preset of ``nodes.cpu.kernel.params``; ``overrides`` are
    single behaviours set on top of it, as (name, value)."""

    name: str
    era: str
    cpus: int
    nics: tuple[NicSettings, ...]
    bond: BondSettings | None
    gateway: GatewaySettings
    overrides: tuple[tuple[str, str], ...] = ()
    completion_timeout_ms: int = 1000
    hostname: str = "m1"
    address: str = "192.168.1.10/24"  # of the first NIC, where there is no bond
    fast_probe: bool = True  # drivers take what they know of a NIC for granted
    ioapics: int = 1  # what the firmware's tables (MADT) list
    pci_lines: int = 8  # pins of the I/O APIC that the slots share
    lan: LanSettings = LanSettings()
    #: CPUs, interrupt controller and memory are a virtual machine's (``bus.vfio_user``): the nodes
    #: are the NICs and the LAN. ``cpus`` says how many it has, for whoever starts it.
    guest: bool = False
    #: "bound" or "free": does each process keep to one processor of the host?
    placement: str = "bound"

    @property
    def cpu_names(self) -> tuple[str, ...]:
        return () if self.guest else tuple(f"cpu{n}" for n in range(self.cpus))

    @property
    def nic_names(self) -> tuple[str, ...]:
        return tuple(nic.name for nic in self.nics)

    @property
    def node_names(self) -> tuple[str, ...]:
        """All nodes in the order in which they are listed everywhere."""
        return (*self.kernel_names, *self.nic_names, LAN)

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """The nodes that run or interrupt our kernel."""
        return () if self.guest else (*self.cpu_names, APIC)

    @property
    def hotplug_slots(self) -> tuple[int, ...]:
        """NICs (by number) whose slots tell the kernel what happens in them."""
        return tuple(number for number, nic in enumerate(self.nics) if nic.hotplug)

    def pci_function(self, number: int) -> PciFunction:
        """A NIC by its number, or, from ``PORTS`` on, the root port above it."""
        if number < PORTS:
            nic = self.nics[number]
            return PciFunction(nic.name, 0, nic.slot + 1 << 8)
        slot = self.nics[number - PORTS].slot
        return PciFunction(APIC, slot, PORT_DEVICE << 3 | slot)

    def gsi(self, nic: int, pin: int) -> int:
        """I/O APIC pin of a NIC's INTA..D (``pin`` 1 to 4), as the board is wired and its _PRT
        says: each slot's root port begins one line further."""
        return FIRST_PCI_GSI + (self.nics[nic].slot + pin - 1) % self.pci_lines

    @property
    def hosts(self) -> dict[str, str]:
        """/etc/hosts of the machine, and of the host behind its switch: addresses by name."""
        own = (self.address if self.bond is None else self.bond.address).partition("/")[0]
        found = {LOCALHOST: "127.0.0.1", self.hostname: own, self.name: own}
        if self.gateway.addresses:
            found[GATEWAY] = self.gateway.addresses[0]
        return found

    @property
    def queues(self) -> int:
        """Queue pairs that the driver uses of each NIC."""
        return min(self.cpus, QUEUES_MAX)

    def peers(self, name: str) -> tuple[str, ...]:
        """Nodes that ``name`` is wired to (besides the orchestrator)."""
        if name in self.cpu_names:
            return (APIC, *self.nic_names)
        if name == APIC:
            return (*self.cpu_names, *self.nic_names)
        if name == LAN:
            return self.nic_names
        return (*self.kernel_names, LAN)

    def layout(self) -> Layout:
        """Layout of the machine's RAM; a guest has its own memory."""
        if self.guest:
            return Layout(self.node_names, 0, len(self.nics), 4096)
        dma = len(self.nics) * (self.queues * QUEUE_DMA_BYTES + 65536)
        return Layout(self.node_names, self.cpus, len(self.nics), dma)

    @property
    def memory_bytes(self) -> int:
        """How much of the RAM is used with rings as drivers start with them."""
        unused = 0 if self.guest else len(self.nics) * self.queues * _QUEUE_UNUSED_BYTES
        return self.layout().total_bytes - unused


def with_lines(hosts: dict[str, str], lines: Iterable[str]) -> dict[str, str]:
    """/etc/hosts, as addresses by name, with more lines behind its own; the first of a name counts,
    and a line that has no address is none."""
    found = dict(hosts)
    for line in lines:
        address, _, name = line.partition(" ")
        with suppress(AddressValueError):
            found.setdefault(name, str(IPv4Address(address)))
    return found
