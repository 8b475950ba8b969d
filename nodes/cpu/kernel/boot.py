"""Bringing a CPU's kernel up, and what the orchestrator may ask of it.

The boot CPU's first task does what start_kernel and an init script do on a box with a bond: wake
the other CPUs, probe the NICs, make bond0, enslave, give it its address and routes. Another CPU
starts at its STARTUP message and reports itself through its page.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from nodes.cpu.kernel import (  # noqa: F401  (some only register their files and records)
    balance,
    cpusysfs,
    pcisysfs,
    sysctl,
    timer_shared,
)
from nodes.cpu.kernel.apic import setup_local_apic
from nodes.cpu.kernel.cpuhotplug import Hotplug, cpu_starting
from nodes.cpu.kernel.cputime import CpuTime
from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.drivers.ixgbe import watchdog
from nodes.cpu.kernel.drivers.ixgbe.hw import ENODEV
from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.irq import gsi  # noqa: F401  (its replica registers itself)
from nodes.cpu.kernel.irq import proc as irq_proc  # noqa: F401  (its files register themselves)
from nodes.cpu.kernel.irq.affinity import Affinities
from nodes.cpu.kernel.irq.io_apic import setup_io_apic
from nodes.cpu.kernel.irq.manage import early_irq_init
from nodes.cpu.kernel.irq.vector import vector_space
from nodes.cpu.kernel.ksoftirqd import spawn_ksoftirqd
from nodes.cpu.kernel.locks.lockdep import Lockdep
from nodes.cpu.kernel.net import (  # noqa: F401  (its files register themselves)
    device,
    dqlsysfs,
    loopback,
    napi,
    receive,
    route,
)
from nodes.cpu.kernel.net.arp import arp_solicit
from nodes.cpu.kernel.net.bonding import main as bonding
from nodes.cpu.kernel.net.bonding import sysfs as bondingsysfs  # noqa: F401
from nodes.cpu.kernel.net.fib import FibRoute, fib_table_insert, inet_insert_ifa
from nodes.cpu.kernel.net.icmp import unreachable
from nodes.cpu.kernel.net.neighbour import NeighbourTable
from nodes.cpu.kernel.net.netdevice import Net
from nodes.cpu.kernel.pciehp.controller import Pciehp
from nodes.cpu.kernel.pciehp.core import pcie_portdrv_init
from nodes.cpu.kernel.pciprobe import pci_scan_device
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.rcu import Rcu
from nodes.cpu.kernel.sched import RunQueue, Task, kthread_run
from nodes.cpu.kernel.smp import CallQueues, send_late_wakeups
from nodes.cpu.kernel.smpboot import smp_init, start_secondary
from nodes.cpu.kernel.snapshot import snapshot
from nodes.cpu.kernel.softirq import TIMER_SOFTIRQ, SoftirqState, open_softirq
from nodes.cpu.kernel.tables import catch_up, publish, replica
from nodes.cpu.kernel.tasklet import softirq_init
from nodes.cpu.kernel.tick import Timers, run_timer_softirq
from nodes.cpu.kernel.traps import trap_init
from nodes.cpu.kernel.watchdog import Watchdog
from nodes.cpu.kernel.workqueue import workqueue_init_early
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.programs.run import Programs, died, signal, spawn, start_waiting

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

__all__ = ["died", "prepare", "signal", "snapshot", "spawn", "start"]

RSS_KEY_BYTES = 40
WAIT_ONLINE_NS, WAIT_ONLINE_POLL_NS = 5_000_000_000, 10_000_000

_ONLINE = CPU_SCHEMA.index("online")


def prepare(cpu: Cpu) -> None:
    """Per-CPU variables, before anything runs."""
    cpu.rq = RunQueue(cpu)
    cpu.idle = cpu.current = Task(cpu, f"swapper/{cpu.number}", None)
    if cpu.params.prove_locking == "on":
        cpu.lockdep = Lockdep(cpu)
    cpu.timers = Timers(cpu)
    cpu.time = CpuTime(cpu)
    cpu.softirq = SoftirqState(cpu)
    softirq_init(cpu)
    early_irq_init(cpu)
    trap_init(cpu)
    cpu.affinity = Affinities((1 << cpu.machine.cpus) - 1)
    if cpu.boot:
        cpu.vectors = vector_space(cpu.params, cpu.machine.cpus, lambda text: printk(cpu, text))
    workqueue_init_early(cpu)
    cpu.watchdog = Watchdog(cpu)
    cpu.call = CallQueues()
    cpu.rcu = Rcu(cpu)
    cpu.hotplug = Hotplug()
    cpu.programs = Programs()
    cpu.modules = {}
    sysctl.setup(cpu)
    cpu.net = Net(cpu)
    route.setup(cpu)
    loopback.setup(cpu)
    cpu.net.neighbours = NeighbourTable(cpu, arp_solicit, unreachable)
    cpu.net.linkwatch = device.Linkwatch(cpu)
    cpu.net.rtnl = device.Rtnl()
    cpu.pciehp = Pciehp()
    cpu.pci_rescan_remove = device.Rtnl()
    cpu.ifup = ifup
    cpu.net.ixgbe_removed = watchdog.on_removal
    open_softirq(cpu, TIMER_SOFTIRQ, run_timer_softirq)
    balance.setup(cpu)
    napi.setup(cpu)
    receive.setup(cpu)


def start(cpu: Cpu) -> None:
    """Power-on of the boot CPU, or of another one at its STARTUP, which may be one of many."""
    cpu.online_cpus = [cpu.number] if cpu.boot else [0, cpu.number]
    if not cpu.boot:
        cpu.idle.gen = start_secondary(cpu, _secondary_online)
        return
    setup_local_apic(cpu)
    cpu.irqs_on = True
    _online(cpu)
    cpu.rcu.gps.start()
    cpu.words[_ONLINE] = 1
    key = cpu.params.rss_key
    cpu.net.rss_key = bytes.fromhex(key) if key else cpu.rng.randbytes(RSS_KEY_BYTES)
    kthread_run(cpu, "init", _init(cpu))


def _secondary_online(cpu: Cpu) -> Context:
    """The first time it gets its threads. Later it has them, parked or asleep, with everything
    else that it knew; who goes on when is a matter of steps."""
    if cpu.hotplug.started:
        yield from cpu_starting(cpu)
        cpu.online = True
    else:
        _online(cpu)


def _online(cpu: Cpu) -> None:
    """The threads that every online CPU has."""
    cpu.online = cpu.hotplug.started = True
    spawn_ksoftirqd(cpu)
    cpu.watchdog.start()
    cpu.wq.start()


@replica("online")
def apply_online(cpu: Cpu, _key: int, numbers: tuple[int, ...]) -> Context | None:
    """cpu_online_mask. Who is new in it is told what it missed."""
    new = [
        number for number in numbers
        if number not in cpu.online_cpus and (cpu.missed.get(number) or number in cpu.call.late)
    ]  # fmt: skip
    cpu.online_cpus = list(numbers)
    return _catch_up(cpu, new) if new else None


def _catch_up(cpu: Cpu, numbers: list[int]) -> Context:
    for number in numbers:
        yield from catch_up(cpu, number)
        yield from send_late_wakeups(cpu, number)


@replica("running")
def apply_running(cpu: Cpu, _key: int, _value: bool) -> None:
    """SYSTEM_RUNNING: programs may start."""
    start_waiting(cpu)


def _init(cpu: Cpu) -> Context:
    printk(cpu, f"Linux version {cpu.params.release} (bottomhalf)")
    yield from setup_io_apic(cpu)
    cpu.online_cpus = yield from smp_init(cpu)
    yield from publish(cpu, "online", 0, tuple(cpu.online_cpus))
    yield from pcie_portdrv_init(cpu)
    for nic in range(len(cpu.machine.nics)):
        yield from pci_scan_device(cpu, nic)
    if cpu.machine.bond is not None:
        yield from _set_up_bond(cpu)
    elif cpu.machine.nics:
        yield from _set_up_single(cpu)
    yield from _wait_online(cpu)
    yield from publish(cpu, "running", 0, True)


def _wait_online(cpu: Cpu) -> Context:
    """What a network-online target does: programs start when the address has a carrier, or when
    it is clear that it will not get one soon."""
    give_up = cpu.now() + WAIT_ONLINE_NS
    while cpu.now() < give_up:
        devices = [cpu.net.devices[i] for i in cpu.net.addresses.values() if i in cpu.net.devices]
        if all(dev.carrier for dev in devices):
            return
        yield from nanosleep(cpu, WAIT_ONLINE_POLL_NS)


def _set_up_bond(cpu: Cpu) -> Context:
    settings = cpu.machine.bond
    assert settings is not None
    bond = yield from bonding.bond_create(cpu, settings)
    yield from _add_address(cpu, settings.address, bond.dev.ifindex)
    yield from bonding.bond_open(cpu, bond)
    for name in settings.slaves:
        yield from enslave(cpu, name)


def enslave(cpu: Cpu, name: str) -> Context:
    """ip link set NAME master bond0; returns 0 or a negative errno."""
    dev = cpu.net.device(name)
    bond = next(iter(cpu.net.bonds.values()), None)
    if dev is None or bond is None:
        return -ENODEV
    yield from cpu.net.rtnl.lock(cpu)
    error: int = yield from bonding.bond_enslave(cpu, bond, dev)
    cpu.net.rtnl.unlock(cpu)
    return error


def ifup(cpu: Cpu, nic: int) -> Context:
    """What udev and the machine's ifcfg files do about a NIC that was plugged in."""
    name = cpu.machine.nics[nic].name
    bond = cpu.machine.bond
    if bond is not None:
        if name in bond.slaves:
            yield from enslave(cpu, name)
    elif nic == 0:
        yield from _set_up_single(cpu)


def _set_up_single(cpu: Cpu) -> Context:
    """A machine without a bond: the first NIC carries the address."""
    dev = cpu.net.device(cpu.machine.nics[0].name)
    if dev is None or dev.adapter is None:
        return
    adapter = dev.adapter
    yield from device.dev_open(cpu, dev, lambda: ixgbe.open_(cpu, adapter))
    yield from _add_address(cpu, cpu.machine.address, dev.ifindex)


def _add_address(cpu: Cpu, address: str, ifindex: int) -> Context:
    """ip addr add, with the connected route and a default route through the gateway."""
    interface = ipaddress.ip_interface(address)
    network = interface.network
    first, mask = int(network.network_address), int(network.netmask)
    yield from inet_insert_ifa(cpu, interface.ip.packed, first, mask, ifindex)
    if cpu.machine.gateway.addresses:
        gateway = int(ipaddress.ip_address(cpu.machine.gateway.addresses[0]))
        yield from fib_table_insert(cpu, FibRoute(0, 0, gateway, ifindex))
