"""What a new value of an option does: the ``bond_option_*_set`` of bond_options.c, for all eras.

A setter gets a value that was checked (the text itself for RAWVAL options) and returns 0 or a
negative errno. Texts are pairs (up to 3.10, 6.1); an empty one is not printed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from errno import EINVAL, EPERM
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding import arpmon, main, monitor
from nodes.cpu.kernel.net.bonding.bond import Bonding, bond_publish
from nodes.cpu.kernel.net.bonding.log import bond_log
from nodes.cpu.kernel.net.bonding.mode import MODES
from nodes.cpu.kernel.net.bonding.options import ARP_TARGETS_MAX, MIIMON_DEFAULT, Option
from nodes.cpu.kernel.net.bonding.select import bond_select_active_slave, bond_set_carrier, show
from nodes.cpu.kernel.net.netdevice import IFF_UP, NetDevice
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

Setter = Callable[["Cpu", Bonding, Option, "str | int"], Context]
TX_QUEUES = 16  # tx_queues

SETTERS: dict[str, Setter] = {}


def say(cpu: Cpu, bond: Bonding, text: str, dev: NetDevice | None = None) -> None:
    """A line that is the same in all eras."""
    bond_log(cpu, bond, (text, text), dev)


def say_by_era(
    cpu: Cpu, bond: Bonding, old: str, new: str = "", dev: NetDevice | None = None
) -> None:
    text = new if cpu.params.log_format == "6.1" else old
    if text:
        say(cpu, bond, text, dev)


def setter(*names: str) -> Callable[[Setter], Setter]:
    def register(function: Setter) -> Setter:
        for name in names:
            SETTERS[name] = function
        return function

    return register


def plain(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """A value that others read when they need it."""
    changes: dict[str, Any] = {option.name: value}
    bond.settings = bond.settings._replace(**changes)
    yield from bond.mode.option_changed(cpu, option.name)
    yield from bond_publish(cpu, bond)
    return 0


@setter("num_grat_arp", "num_unsol_na")
def set_num_peer_notif(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    bond.settings = bond.settings._replace(num_grat_arp=int(value))
    yield from bond_publish(cpu, bond)
    return 0


@setter("mode")
def set_mode(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """A mode that needs the MII monitor gets it."""
    name = str(value)
    if name not in MODES:
        return -EINVAL
    settings = bond.settings
    if not MODES[name].arp_monitor:
        settings = settings._replace(arp_interval=0, miimon=settings.miimon or MIIMON_DEFAULT)
    if name == "balance-alb":
        settings = settings._replace(tlb_dynamic_lb=1)
    bond.settings = settings._replace(arp_validate="none")
    yield from main.bond_set_mode(cpu, bond, name)
    return 0


# ---------------------------------------------------------------- monitors


@setter("miimon")
def set_miimon(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """Delays keep their number of looks. A monitor that waits comes at its old time once more."""
    ms = int(value)
    bond.settings = bond.settings._replace(miimon=ms)
    for name, ticks in (("updelay", bond.updelay_ticks), ("downdelay", bond.downdelay_ticks)):
        if ticks:
            text = f"Note: Updating {name} (to {ticks * ms}) since it is a multiple of the miimon"
            say_by_era(cpu, bond, text + " value.")
    if ms and bond.settings.arp_interval:
        text = "MII monitoring cannot be used with ARP monitoring. Disabling ARP monitoring..."
        say_by_era(cpu, bond, text)
        bond.settings = bond.settings._replace(arp_interval=0, arp_validate="none")
        yield from arpmon.stop(cpu, bond)
    yield from bond_publish(cpu, bond)
    if bond.dev.flags & IFF_UP:
        if ms:
            yield from monitor.start(cpu, bond)
        else:
            yield from monitor.stop(cpu, bond)
    show(cpu, bond)
    return 0


def delay_ticks(cpu: Cpu, bond: Bonding, option: Option, value: int) -> int:
    """Looks of the MII monitor, or a negative errno; the log says what was rounded."""
    miimon = bond.settings.miimon
    if not miimon:
        say(cpu, bond, f"Unable to set {option.shown} as MII monitoring is disabled")
        return -EPERM
    ticks = value // miimon
    if value % miimon:
        what = f"{option.shown} ({value}) is not a multiple of miimon ({miimon})"
        short = "updelay" if option.name == "updelay" else "delay"
        old = f"Warning: {what}, {short} rounded to {ticks * miimon} ms"
        say_by_era(cpu, bond, old, f"{what}, value rounded to {ticks * miimon} ms")
    return ticks


@setter("updelay")
def set_updelay(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    ticks = delay_ticks(cpu, bond, option, int(value))
    if ticks < 0:
        return ticks
    bond.updelay_ticks = ticks
    say_by_era(cpu, bond, f"Setting up delay to {ticks * bond.settings.miimon}.")
    yield
    return 0


@setter("downdelay")
def set_downdelay(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    ticks = delay_ticks(cpu, bond, option, int(value))
    if ticks < 0:
        return ticks
    bond.downdelay_ticks = ticks
    say_by_era(cpu, bond, f"Setting down delay to {ticks * bond.settings.miimon}.")
    yield
    return 0


@setter("peer_notif_delay")
def set_peer_notif_delay(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    ticks = delay_ticks(cpu, bond, option, int(value))
    if ticks < 0:
        return ticks
    bond.peer_notif_ticks = ticks
    yield
    return 0


@setter("arp_interval")
def set_arp_interval(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    bond.settings = bond.settings._replace(arp_interval=int(value))
    if value and bond.settings.miimon:
        text = "ARP monitoring cannot be used with MII monitoring. "
        say_by_era(cpu, bond, f"{text}{bond.dev.name} Disabling MII monitoring.")
        bond.settings = bond.settings._replace(miimon=0)
    if not bond.settings.arp_ip_target:
        text = "ARP monitoring has been set up, but no ARP targets have been specified."
        say_by_era(cpu, bond, text)
    yield from bond_publish(cpu, bond)
    if bond.dev.flags & IFF_UP:
        if value:
            yield from monitor.stop(cpu, bond)
            yield from arpmon.start(cpu, bond)
        else:
            yield from arpmon.stop(cpu, bond)
    show(cpu, bond)
    return 0


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.IPv4Address(text.strip()))
    except ValueError:
        return None


@setter("arp_ip_target")
def set_arp_ip_target(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """+address adds, -address removes."""
    text, old = str(value), cpu.params.bond_options != "table"
    sign, address = text[:1], _address(text[1:])
    if address is None and not old:
        say(cpu, bond, "invalid ARP target specified")
        return -EPERM
    if sign not in ("+", "-"):
        say_by_era(
            cpu, bond,
            f"no command found in arp_ip_targets file for bond {bond.dev.name}. "
            "Use +<addr> or -<addr>.",
            "no command found in arp_ip_targets file - use +<addr> or -<addr>",
        )  # fmt: skip
        return -EPERM
    dot = "." if old else ""
    targets = bond.settings.arp_ip_target
    wrong = ""
    what = "addition" if sign == "+" else "removal"
    if address is None or address in ("0.0.0.0", "255.255.255.255"):
        wrong = f"invalid ARP target {address or '255.255.255.255'} specified for {what}"
    elif sign == "+" and address in targets:
        wrong = f"ARP target {address} is already present"
    elif sign == "+" and len(targets) >= ARP_TARGETS_MAX:
        wrong = "ARP target table is full!"
    elif sign == "-" and address not in targets:
        wrong = f"unable to remove nonexistent ARP target {address}{dot}"
    if wrong or address is None:
        say(cpu, bond, wrong)
        return -EINVAL
    if sign == "+":
        say_by_era(cpu, bond, f"adding ARP target {address}.")
        targets = (*targets, address)
    else:
        say_by_era(cpu, bond, f"removing ARP target {address}.")
        if len(targets) == 1 and bond.settings.arp_interval and not old:
            say(cpu, bond, "Removing last arp target with arp_interval on")
        targets = tuple(target for target in targets if target != address)
    bond.settings = bond.settings._replace(arp_ip_target=targets)
    yield from bond_publish(cpu, bond)
    return 0


# ---------------------------------------------------------------- the active slave


@setter("primary")
def set_primary(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """A name that is no slave yet is kept for when it is."""
    name = str(value).split("\n")[0]
    slave = next((s for s in bond.slaves if s.dev.name == name), None)
    if not name:
        say_by_era(cpu, bond, "Setting primary slave to None.")
    elif slave is not None:
        say_by_era(cpu, bond, f"Setting {name} as primary slave.")
        bond.force_primary = True
    else:
        master = bond.dev.name
        text = f"Recording {name} as primary, but it has not been enslaved to {master} yet."
        say_by_era(cpu, bond, text)
    bond.settings = bond.settings._replace(primary=name)
    yield from bond_select_active_slave(cpu, bond)
    return 0


@setter("primary_reselect")
def set_primary_reselect(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    bond.settings = bond.settings._replace(primary_reselect=str(value))
    yield from bond_select_active_slave(cpu, bond)
    return 0


@setter("all_slaves_active")
def set_all_slaves_active(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """Backups begin or cease to receive at once."""
    bond.settings = bond.settings._replace(all_slaves_active=int(value))
    for slave in bond.slaves:
        if slave.backup or (bond.mode.uses_primary and slave is not bond.curr_active):
            slave.dev.inactive = not value
            yield from device.changed(cpu, slave.dev)
    return 0


@setter("min_links")
def set_min_links(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    bond.settings = bond.settings._replace(min_links=int(value))
    yield from bond.mode.option_changed(cpu, "min_links")
    yield from bond_set_carrier(cpu, bond)
    return 0


@setter("queue_id")
def set_queue_id(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """eth0:2; each queue but 0 has one slave. Nothing here gives a packet a queue."""
    name, colon, number = str(value).strip().partition(":")
    dev = cpu.net.device(name)
    slave = next((s for s in bond.slaves if s.dev is dev), None)
    queue = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else -1
    taken = queue > 0 and any(s.queue_id == queue for s in bond.slaves)
    yield
    if not colon or not 0 <= queue <= TX_QUEUES or slave is None or taken:
        text = f"invalid input for queue_id set for {bond.dev.name}."
        say_by_era(cpu, bond, text)
        return -EPERM if cpu.params.bond_options == "table" else -EINVAL
    slave.queue_id = queue
    return 0


@setter("ad_actor_system")
def set_ad_actor_system(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """A unicast address."""
    text = str(value).strip().lower()
    octets = text.split(":")
    hexadecimal = len(octets) == 6 and all(
        len(o) == 2 and all(c in "0123456789abcdef" for c in o) for o in octets
    )
    if not hexadecimal or int(octets[0], 16) & 1:
        say(cpu, bond, f"Invalid ad_actor_system MAC address {text}")
        return -EINVAL
    return (yield from plain(cpu, bond, option, text))
