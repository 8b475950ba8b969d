"""Up to 3.10 each option checks what it gets itself, after the store functions of bond_sysfs.c.

``_OLD`` has the words and the errors of each; what a value does then is in ``setters``. The words
are 3.10's in all eras before 6.1 (2.6.18 has a few of its own, which were not read). A
slave that cannot become the active one is no error there.
"""

from __future__ import annotations

from errno import EINVAL, EPERM
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.files import kstrtoint
from nodes.cpu.kernel.net.bonding import setters, slavesetters
from nodes.cpu.kernel.net.bonding.bond import Bonding
from nodes.cpu.kernel.net.bonding.options import MODE_NAMES, OPTIONS, Option, parse
from nodes.cpu.kernel.net.bonding.setters import say
from nodes.cpu.kernel.net.netdevice import IFF_UP
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

assert slavesetters  # they register themselves


class Old(NamedTuple):
    """``{text}`` is what was written, ``{value}`` the value, ``{number}`` its number."""

    invalid: str  # the value is none; empty: nothing is said
    set: str = ""
    no_value: str = ""  # not even a number
    while_up: str = ""  # refused with EPERM while the bond is up
    wrong_mode: str = ""  # refused in other modes than the option's
    wrong_mode_errno: int = EINVAL


_RANGE = "Invalid {name} value {value} not in range {low}-{high}; rejected."
_NO = "no {name} value specified."

_OLD: dict[str, Old] = {
    "mode": Old(
        "Ignoring invalid mode value {text}.",
        "setting mode to {value} ({number}).",
        while_up="unable to update mode of {bond} because interface is up.",
    ),
    "xmit_hash_policy": Old(
        "Ignoring invalid xmit hash policy value {text}.",
        "setting xmit hash policy to {value} ({number}).",
    ),
    "arp_validate": Old(
        "Ignoring invalid arp_validate value {text}",
        "setting arp_validate to {value} ({number}).",
        wrong_mode="arp_validate only supported in active-backup mode.",
    ),
    "fail_over_mac": Old(
        "Ignoring invalid fail_over_mac value {text}.",
        "Setting fail_over_mac to {value} ({number}).",
    ),
    "arp_interval": Old(
        _RANGE, "Setting ARP monitoring interval to {value}.", _NO,
        wrong_mode="ARP monitoring cannot be used with ALB/TLB. "
        "Only MII monitoring is supported on {bond}.",
    ),
    "downdelay": Old("Invalid down delay value {value} not in range {low}-{high}; rejected.",
                     no_value="no down delay value specified."),
    "updelay": Old("Invalid up delay value {value} not in range {low}-{high}; rejected.",
                   no_value="no up delay value specified."),
    "lacp_rate": Old(
        "Ignoring invalid LACP rate value {text}.", "Setting LACP rate to {value} ({number}).",
        while_up="Unable to update LACP rate because interface is up.",
        wrong_mode="Unable to update LACP rate because bond is not in 802.3ad mode.",
        wrong_mode_errno=EPERM,
    ),
    "min_links": Old("Ignoring invalid min links value {text}.",
                     "Setting min links value to {value}"),
    "ad_select": Old(
        "Ignoring invalid ad_select value {text}.", "Setting ad_select to {value} ({number}).",
        while_up="Unable to update ad_select because interface is up.",
    ),
    "num_grat_arp": Old(""),
    "num_unsol_na": Old(""),
    "miimon": Old(_RANGE, "Setting MII monitoring interval to {value}.", _NO),
    "primary": Old("", wrong_mode="Unable to set primary slave; {bond} is in mode {mode_number}"),
    "primary_reselect": Old(
        "Ignoring invalid primary_reselect value {text}.",
        "setting primary_reselect to {value} ({number}).",
    ),
    "use_carrier": Old("Ignoring invalid use_carrier value {text}.",
                       "Setting use_carrier to {value}.", _NO),
    "active_slave": Old(
        "", wrong_mode="Unable to change active slave; {bond} is in mode {mode_number}"
    ),
    "resend_igmp": Old(_RANGE, "Setting resend_igmp to {value}.", _NO),
    "all_slaves_active": Old("Ignoring invalid all_slaves_active value {text}.", "", _NO),
}  # fmt: skip

#: Modes of an option then, where they were others.
_MODES = {"arp_validate": ("active-backup",)}


def store_option(cpu: Cpu, bond: Bonding, option: Option, text: str) -> Context:
    """bonding_store_NAME: 0 or a negative errno."""
    old = _OLD.get(option.name)
    if old is None:  # slaves, arp_ip_target, queue_id: they look for a command
        error: int = yield from setters.SETTERS[option.name](cpu, bond, option, text)
        return error
    error, value = _check(cpu, bond, option, old, text)
    if error:
        return error
    setter = setters.SETTERS.get(option.name, setters.plain)
    if old.set:
        say(cpu, bond, _text(bond, option, old.set, text, value))
    error = yield from setter(cpu, bond, option, value)
    return 0 if option.name == "active_slave" else error


def _check(cpu: Cpu, bond: Bonding, option: Option, old: Old, text: str) -> tuple[int, str | int]:
    if option.name == "fail_over_mac" and bond.slaves:
        say(cpu, bond, "Can't alter fail_over_mac with slaves in bond.")
        return -EPERM, 0
    if old.while_up and bond.dev.flags & IFF_UP:
        say(cpu, bond, _text(bond, option, old.while_up, text, ""))
        return -EPERM, 0
    modes = _MODES.get(option.name, option.modes)
    if old.wrong_mode and modes and bond.settings.mode not in modes and text.strip() != "none":
        say(cpu, bond, _text(bond, option, old.wrong_mode, text, ""))
        return -old.wrong_mode_errno, 0
    if option.raw:
        return 0, text
    if option.name in ("updelay", "downdelay") and not bond.settings.miimon:
        return setters.delay_ticks(cpu, bond, option, 0), 0
    number = kstrtoint(text)
    value = parse(option, text.strip(), cpu.params.absent_values) if option.words else number
    if value is not None and (option.words or option.low <= int(value) <= option.high):
        return 0, value
    why = old.no_value if number is None and old.no_value else old.invalid
    if why:
        say(cpu, bond, _text(bond, option, why, text, "" if number is None else number))
    return -EINVAL, 0


def _text(bond: Bonding, option: Option, template: str, text: str, value: str | int) -> str:
    number = option.words.index(str(value)) if str(value) in option.words else value
    return template.format(
        name=option.name, bond=bond.dev.name, text=text.strip(), value=value, number=number,
        low=option.low, high=option.high, mode_number=MODE_NAMES.index(bond.settings.mode),
    )  # fmt: skip


assert all(name in OPTIONS for name in _OLD)
