"""What may be written to a bond's options: active_slave, slaves, miimon, updelay, downdelay.

After bond_sysfs.c and bond_options.c. Behaviour ``bond_options``: up to 3.10 *each-its-own*: an
option checks what it gets, says in the log what it did, and a slave that cannot become the active
one is no error; in 6.1 a *table* has the limits and nothing is said of what worked. The other
options are read-only here.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENODEV, EPERM
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.files import kstrtoint, store
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding import main, monitor, select
from nodes.cpu.kernel.net.bonding.bond import BOND_LINK_UP, Bonding, Slave
from nodes.cpu.kernel.net.bonding.log import bond_log
from nodes.cpu.kernel.net.netdevice import IFF_SLAVE, IFF_UP, NetDevice
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sysctl import INT_MAX
from nodes.cpu.kernel.workqueue import cancel_delayed_work, queue_delayed_work

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: (text up to 3.10, text of 6.1); an empty one is not printed.
_NO_VALUE = ("no {old} value specified.", "option {name}: invalid value ({text})")
_INVALID = (
    "Invalid {old} value {value} not in range 0-{limit}; rejected.",
    "option {name}: invalid value ({text})",
)
_ALLOWED = ("", "option {name}: allowed values 0 - {limit}")
_NO_MII = ("Unable to set {old} as MII monitoring is disabled",) * 2
_ROUNDED = (
    "Warning: {old} ({value}) is not a multiple of miimon ({miimon}), {short} rounded to {ms} ms",
    "{old} ({value}) is not a multiple of miimon ({miimon}), value rounded to {ms} ms",
)
_SETTING = ("Setting {old} to {ms}.", "")
_SETTING_MIIMON = ("Setting MII monitoring interval to {ms}.", "")
_UPDATING = (
    "Note: Updating {name} (to {ms}) since it is a multiple of the miimon value.",
    "",
)
_CLEARING = ("Clearing current active slave.", "")
_ALREADY = ("{dev} is already the current active slave.", "")
_SETTING_ACTIVE = ("Setting {dev} as active slave.", "")
_CANNOT = (
    "Could not set {dev} as active slave; either {dev} is down or the link is down.",
    "Could not set as active slave; either {dev} is down or the link is down",
)
_UNABLE = ("Unable to set {text} as active slave.", "")
_NOT_A_SLAVE = ("", "Device is not bonding slave")
_BAD_ACTIVE = ("", "option active_slave: invalid value ({text})")
_NO_DEVICE = ("", "option {name}: interface {text} does not exist!")
_NO_COMMAND = (
    "no command found in slaves file for bond {master}. Use +ifname or -ifname.",
    "no command found in slaves file - use +ifname or -ifname",
)
_NO_INTERFACE = (
    "Interface {text} does not exist!",
    "option slaves: interface {text} does not exist!",
)
_ADDING = ("Adding slave {dev}.", "")
_REMOVING = ("Removing slave {dev}.", "")
_ENSLAVED = ("Error: Device was already enslaved", "Error: Device was already enslaved")
_WHILE_UP = ("{dev} is up - this may be due to an out of date ifenslave",
             "Error: Device can not be enslaved while up")  # fmt: skip
_CANNOT_RELEASE = ("cannot release {dev}.", "interface not enslaved")


def _say(
    cpu: Cpu,
    bond: Bonding,
    event: tuple[str, str],
    dev: NetDevice | None = None,
    **values: object,
) -> None:
    if event[cpu.params.log_format == "6.1"]:
        bond_log(cpu, bond, event, dev, master=bond.dev.name, **values)


def _number(cpu: Cpu, bond: Bonding, name: str, old: str, text: str) -> int | None:
    """A value of 0 .. INT_MAX; else the log says what was wrong."""
    value = kstrtoint(text)
    shown: dict[str, Any] = {
        "name": name,
        "old": old,
        "text": text.strip(),
        "value": value,
        "limit": INT_MAX,
    }
    if value is not None and 0 <= value <= INT_MAX:
        return value
    _say(cpu, bond, _NO_VALUE if value is None else _INVALID, **shown)
    _say(cpu, bond, _ALLOWED, **shown)
    return None


@store("/sys/class/net/{bond}/bonding/miimon")
def store_miimon(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    """Delays keep their number of looks. A monitor that waits comes at its old time once more."""
    bond = cpu.net.bonds[groups["bond"]]
    yield from cpu.net.rtnl.lock(cpu)
    value = _number(cpu, bond, "miimon", "miimon", text)
    if value is not None:
        _say(cpu, bond, _SETTING_MIIMON, ms=value)
        bond.settings = bond.settings._replace(miimon=value)
        for name, ticks in (("updelay", bond.updelay_ticks), ("downdelay", bond.downdelay_ticks)):
            if ticks:
                _say(cpu, bond, _UPDATING, name=name, ms=ticks * value)
        if bond.work is None:
            yield from monitor.start(cpu, bond)
        elif value:
            yield from queue_delayed_work(cpu, bond.wq, bond.work, 0)
        else:
            yield from cancel_delayed_work(cpu, bond.work)
        select.show(cpu, bond)
    cpu.net.rtnl.unlock(cpu)
    return -EINVAL if value is None else 0


def _delay(cpu: Cpu, bond: Bonding, name: str, old: str, text: str) -> int:
    """Ticks of a delay, or a negative errno."""
    miimon = bond.settings.miimon
    if not miimon:
        _say(cpu, bond, _NO_MII, old=old)
        return -EPERM
    value = _number(cpu, bond, name, old, text)
    if value is None:
        return -EINVAL
    ms = value // miimon * miimon
    if ms != value:
        short = "updelay" if name == "updelay" else "delay"
        _say(cpu, bond, _ROUNDED, old=old, value=value, miimon=miimon, ms=ms, short=short)
    _say(cpu, bond, _SETTING, old=old, ms=ms)
    return value // miimon


@store("/sys/class/net/{bond}/bonding/updelay")
def store_updelay(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    bond = cpu.net.bonds[groups["bond"]]
    yield from cpu.net.rtnl.lock(cpu)
    ticks = _delay(cpu, bond, "updelay", "up delay", text)
    if ticks >= 0:
        bond.updelay_ticks = ticks
    cpu.net.rtnl.unlock(cpu)
    return min(ticks, 0)


@store("/sys/class/net/{bond}/bonding/downdelay")
def store_downdelay(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    bond = cpu.net.bonds[groups["bond"]]
    yield from cpu.net.rtnl.lock(cpu)
    ticks = _delay(cpu, bond, "downdelay", "down delay", text)
    if ticks >= 0:
        bond.downdelay_ticks = ticks
    cpu.net.rtnl.unlock(cpu)
    return min(ticks, 0)


# ---------------------------------------------------------------- slaves


def _slave(bond: Bonding, name: str) -> Slave | None:
    return next((slave for slave in bond.slaves if slave.dev.name == name), None)


@store("/sys/class/net/{bond}/bonding/active_slave")
def store_active_slave(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    """Change the active slave now; an empty line lets the bond choose again."""
    bond = cpu.net.bonds[groups["bond"]]
    yield from cpu.net.rtnl.lock(cpu)
    error: int = yield from _set_active(cpu, bond, text.strip())
    cpu.net.rtnl.unlock(cpu)
    return error if cpu.params.bond_options == "table" else 0


def _set_active(cpu: Cpu, bond: Bonding, name: str) -> Context:
    if not name:
        _say(cpu, bond, _CLEARING)
        bond.curr_active = None
        yield from select.bond_select_active_slave(cpu, bond)
        return 0
    dev, slave = cpu.net.device(name), _slave(bond, name)
    if dev is None:
        _say(cpu, bond, _UNABLE, text=name)
        _say(cpu, bond, _NO_DEVICE, name="active_slave", text=name)
        return -ENODEV
    if slave is None:
        _say(cpu, bond, _UNABLE, text=name)
        _say(cpu, bond, _NOT_A_SLAVE, dev)
        _say(cpu, bond, _BAD_ACTIVE, text=name)
        return -EINVAL
    if slave is bond.curr_active:
        _say(cpu, bond, _ALREADY, dev)
        return 0
    if bond.curr_active is None or slave.link != BOND_LINK_UP or not dev.flags & IFF_UP:
        _say(cpu, bond, _CANNOT, dev)
        _say(cpu, bond, _BAD_ACTIVE, text=name)
        return -EINVAL
    _say(cpu, bond, _SETTING_ACTIVE, dev)
    yield from select.bond_change_active_slave(cpu, bond, slave)
    return 0


@store("/sys/class/net/{bond}/bonding/slaves")
def store_slaves(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    """+ifname enslaves, -ifname releases."""
    bond = cpu.net.bonds[groups["bond"]]
    command, name = text[:1], text[1:].strip()
    yield from cpu.net.rtnl.lock(cpu)
    error: int = yield from _change_slaves(cpu, bond, command, name)
    cpu.net.rtnl.unlock(cpu)
    return error


def _change_slaves(cpu: Cpu, bond: Bonding, command: str, name: str) -> Context:
    if command not in ("+", "-") or not name:
        _say(cpu, bond, _NO_COMMAND)
        return -EPERM
    dev = cpu.net.device(name)
    if dev is None:
        _say(cpu, bond, _NO_INTERFACE, name="slaves", text=name)
        return -ENODEV
    if command == "+":
        error: int = yield from _enslave(cpu, bond, dev)
        return error
    slave, adapter = _slave(bond, name), dev.adapter
    if slave is None or adapter is None:
        _say(cpu, bond, _CANNOT_RELEASE, dev)
        return -EINVAL
    _say(cpu, bond, _REMOVING, dev)
    yield from main.bond_release(cpu, bond, slave)
    yield from device.dev_close(cpu, dev, lambda: ixgbe.close(cpu, adapter))
    return 0


def _enslave(cpu: Cpu, bond: Bonding, dev: NetDevice) -> Context:
    if dev.flags & IFF_SLAVE:
        _say(cpu, bond, _ENSLAVED, dev)
        return -EBUSY
    if dev.flags & IFF_UP:
        _say(cpu, bond, _WHILE_UP, dev)
        return -EPERM
    if dev.adapter is None:
        return -EINVAL
    _say(cpu, bond, _ADDING, dev)
    error: int = yield from main.bond_enslave(cpu, bond, dev)
    return error
