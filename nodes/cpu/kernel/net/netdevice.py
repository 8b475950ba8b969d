"""Network devices and what a CPU knows of the network, after net/core/dev.c.

``Net`` is one CPU's view: its own softnet data, sockets and dst entries, and replicas of devices,
addresses, routes and neighbours, which the boot CPU writes. Device events reach every CPU: each
runs its own notifier chain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net.qdisc import PfifoFast
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.page import NICS_MAX

if TYPE_CHECKING:
    from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
    from nodes.cpu.kernel.net.bonding.bond import Bonding, BondPort
    from nodes.cpu.kernel.net.device import Linkwatch, Rtnl
    from nodes.cpu.kernel.net.dst_gc import DstGarbage
    from nodes.cpu.kernel.net.fib import Fib
    from nodes.cpu.kernel.net.icmp import RateLimit
    from nodes.cpu.kernel.net.ip_fragment import Frags
    from nodes.cpu.kernel.net.ip_tables import Table
    from nodes.cpu.kernel.net.napi import Napi
    from nodes.cpu.kernel.net.neighbour import NeighbourTable
    from nodes.cpu.kernel.net.netfilter import HookFunction
    from nodes.cpu.kernel.net.nf_conntrack import Conntrack
    from nodes.cpu.kernel.net.route import RouteCache
    from nodes.cpu.kernel.net.rtnetlink import Listener
    from nodes.cpu.kernel.net.socket import RawSocket, Socket
    from nodes.cpu.kernel.net.taps import TapSession
    from nodes.cpu.kernel.net.udp_table import UdpEntry
    from nodes.cpu.kernel.percpu import Context, Cpu
    from nodes.cpu.kernel.timer import Timer

IFF_UP, IFF_BROADCAST, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x2, 0x8, 0x40
IFF_PROMISC, IFF_MASTER, IFF_SLAVE, IFF_MULTICAST = 0x100, 0x400, 0x800, 0x1000

NETDEV_UP, NETDEV_DOWN, NETDEV_CHANGE, NETDEV_UNREGISTER = 0x1, 0x2, 0x4, 0x6

#: lo is registered first.
LOOPBACK_IFINDEX = 1
#: Device references are counted by slot: 0 the bond, 1 + NIC number, the last for lo.
LOOPBACK_SLOT = NICS_MAX + 1

#: f(cpu, dev, event): a plain call, on every CPU
Notifier = Callable[["Cpu", "NetDevice", int], None]


class NetDevice:
    """struct net_device: eth0 .. (``nic`` is its number) or bond0 (``nic`` is None)."""

    def __init__(self, ifindex: int, name: str, mac: bytes, nic: int | None) -> None:
        self.ifindex = ifindex
        self.name = name
        self.dev_addr = mac
        self.nic = nic
        self.mtu = 1500
        self.flags = IFF_BROADCAST | IFF_MULTICAST
        self.carrier = False
        self.qdisc_active = False  # frames are given to a real qdisc, not to noop
        self.qdisc_attached = False  # dev->qdisc is a real one: from the first dev_open on
        self.master: NetDevice | None = None
        self.bonding: BondPort | None = None  # of a bond device
        self.adapter: Adapter | None = None
        self.inactive = False  # slave of a bond, not receiving
        self.probed = False  # slave of a bond that looks at each frame (``BondPort.recv_probe``)
        self.arpmon = False  # slave of a bond with the ARP monitor: note when it sends
        self.promiscuity = 0
        self.mc_list: list[bytes] = []  # of the boot CPU
        self.refcnt = 0  # references of this CPU's dst entries
        self.slot = 0 if nic is None else nic + 1  # of its words in the page
        # transmit queue of this CPU
        self.qdisc = PfifoFast(self.slot)
        self.rps: dict[int, tuple[int, ...]] = {}  # rps_map, by receive queue
        self.queue_stopped = False  # no room in the ring that this CPU sends on
        # on the boot CPU:
        self.ndo_tx_timeout: Callable[[], Context] | None = None
        self.watchdog_timer: Timer | None = None

    def shared(self) -> tuple[Any, ...]:
        """What replicas hold."""
        return (
            self.name,
            self.dev_addr,
            self.nic,
            self.mtu,
            self.flags,
            self.carrier,
            self.qdisc_active,
            self.qdisc_attached,
            self.master.ifindex if self.master else 0,
            self.inactive,
        )


class Net:
    """One CPU's network state."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.devices: dict[int, NetDevice] = {}
        self.by_name: dict[str, NetDevice] = {}
        self.addresses: dict[bytes, int] = {}  # local IPv4 address -> ifindex
        self.fib: Fib
        self.route_cache: RouteCache
        self.dst_garbage: DstGarbage
        self.dst_numbers = 0
        self.loopback_dev = NetDevice(LOOPBACK_IFINDEX, "lo", bytes(6), None)
        self.loopback_dev.slot = LOOPBACK_SLOT
        #: What a dst entry holds whose device is gone.
        self.blackhole_netdev = self.loopback_dev
        if cpu.params.dst_without_device == "blackhole_netdev":
            self.blackhole_netdev = NetDevice(0, "blackhole_dev", bytes(6), None)
            self.blackhole_netdev.slot = LOOPBACK_SLOT
        self.netdev_chain: list[tuple[int, Notifier]] = []
        self.neighbours: NeighbourTable
        self.sockets: dict[int, Socket] = {}  # of this CPU
        self.raw_sockets: dict[int, RawSocket] = {}  # replicas, by id
        self.udp_table: dict[int, list[UdpEntry]] = {}  # replicas, by port
        self.pieces: dict[tuple[int, int], bytes] = {}  # of datagrams for (source CPU, socket)
        self.frags: Frags
        self.icmp_limit: RateLimit
        self.defrag: Callable[[Cpu, SkBuff], Context]
        self.next_socket = cpu.number << 16 | 1
        self.taps: list[TapSession] = []  # ptype_all
        self.ptypes: list[TapSession] = []  # of one ethertype
        self.packet_pending: list[tuple[TapSession, SkBuff]] = []  # for ``af_packet``
        self.bonds: dict[str, Bonding] = {}
        self.adapters: dict[str, Adapter] = {}
        self.linkwatch: Linkwatch
        self.link_listeners: list[Listener] = []  # rtnetlink's group for links
        self.rtnl: Rtnl
        self.unregister_listeners: list[Callable[[Cpu, NetDevice], Context]] = []
        self.poll_list: list[Napi] = []
        self.bond_probed: list[tuple[SkBuff, NetDevice]] = []  # for ``Mode.received``
        self.output_queue: list[NetDevice] = []
        self.backlog: deque[tuple[int, SkBuff, bytes]] = deque()
        self.backlog_polled = False  # NET_RX is at it: NAPI_STATE_SCHED of the backlog's NAPI
        self.deliver: Callable[[Cpu, SkBuff], Context]
        self.bond_received: Callable[[Cpu, SkBuff, NetDevice], Context]
        self.receive: Callable[[Cpu, SkBuff], Context]
        self.receive_list: Callable[[Cpu, list[SkBuff]], Context]
        self.next_ifindex = LOOPBACK_IFINDEX + 1
        self.rss_key = b""
        self.ixgbe_removed: Callable[[Cpu, int], Context] | None = None
        self.ip_id = cpu.rng.randrange(1, 0xFFFF)
        self.hook_counts = [[0] * 4 for _ in range(5)]  # by hook, by HOOK_CONTEXTS
        self.nf_hooks: list[list[tuple[int, HookFunction]]] = [[] for _ in range(5)]
        self.conntrack: Conntrack | None = None  # while its module is loaded
        self.ip_tables: dict[str, Table] = {}

    def device(self, name: str) -> NetDevice | None:
        """dev_get_by_name: a port, the bond, or lo."""
        return self.by_name.get(name)


def qdisc_reset(cpu: Cpu, dev: NetDevice) -> None:
    """dev_deactivate: what waited in this CPU's queue is dropped."""
    while (skb := dev.qdisc.dequeue(cpu)) is not None:
        kfree_skb_reason(cpu, skb, "QDISC_DROP", dev)
    dev.queue_stopped = False


@replica("netdev")
def apply_netdev(cpu: Cpu, ifindex: int, value: tuple[Any, ...] | None) -> None:
    """A device appeared, changed, or (None) went away."""
    net = cpu.net
    dev = net.devices.get(ifindex)
    if value is None:
        if dev is not None:
            del net.devices[ifindex]
            net.by_name.pop(dev.name, None)
        return
    name, mac, nic, mtu, flags, carrier, qdisc_active, attached, master, inactive = value
    if dev is None:
        dev = NetDevice(ifindex, name, mac, nic)
        net.devices[ifindex] = dev
        net.by_name[name] = dev
    dev.dev_addr, dev.mtu, dev.flags = mac, mtu, flags
    dev.carrier, dev.qdisc_active, dev.inactive = carrier, qdisc_active, inactive
    dev.qdisc_attached = attached
    if not qdisc_active:
        qdisc_reset(cpu, dev)
    dev.master = net.devices.get(master)


@replica("address")
def apply_address(cpu: Cpu, address: bytes, ifindex: int) -> None:
    """A local IPv4 address; ifindex 0 removes it."""
    if ifindex:
        cpu.net.addresses[address] = ifindex
    else:
        cpu.net.addresses.pop(address, None)
    cpu.net.route_cache.fib_local(address, ifindex)
    cpu.net.route_cache.flush(-1)  # fib_inetaddr_event


def register_netdevice_notifier(cpu: Cpu, notifier: Notifier, priority: int = 0) -> None:
    """Higher priorities are called first, equal ones in the order they came."""
    cpu.net.netdev_chain.append((priority, notifier))
    cpu.net.netdev_chain.sort(key=lambda entry: -entry[0])


def call_netdevice_notifiers(cpu: Cpu, dev: NetDevice, event: int) -> Context:
    """Something happened to a device: tell the chain of every CPU."""
    yield from publish(cpu, "netdev_event", dev.ifindex, event)


@replica("netdev_event")
def apply_netdev_event(cpu: Cpu, ifindex: int, event: int) -> None:
    dev = cpu.net.devices.get(ifindex)
    if dev is not None:
        for _priority, notifier in cpu.net.netdev_chain:
            notifier(cpu, dev, event)
