"""What the guest's shell is told at its start: addresses, the bond, and to wait for the links.

The same settings as an emulated machine's, in Linux's own words: bonding's options are written to
its files in sysfs, each under the name that it has in a machine's ``[bond0]``.
"""

from __future__ import annotations

from nodes.machine import GATEWAY, BondSettings, MachineSettings

#: In the guest: the exit code of all this.
READY_FILE = "/run/ready"
#: Of the bond's settings, what is no option of bonding's.
_NO_OPTIONS = ("name", "slaves", "address")
#: Options that need something else first: these come last, in this order.
_LAST = ("primary",)
#: Have these devices a carrier?
_CARRIER = """\
carrier() {
    for device in "$@"; do
        [ "$(cat /sys/class/net/"$device"/carrier 2>&-)" = 1 ] || return 1
    done
}"""
#: A link takes 2-3 s with an emulated CPU; without a switch behind it, it never comes.
_LINK_TENTHS = 150


def start(settings: MachineSettings) -> str:
    """Shell commands that bring the network up."""
    host = settings.hostname
    address = (settings.bond.address if settings.bond else settings.address).partition("/")[0]
    lines = [
        f"hostname {host}",
        f"printf '%s\\n' '127.0.0.1 localhost' '{address} {host}' "
        f"'{settings.gateway.addresses[0]} {GATEWAY}' >/etc/hosts",
    ]
    bond = settings.bond
    if bond is None:
        for nic in settings.nic_names:
            lines.append(_up(settings, nic))
        carriers = " ".join(settings.nic_names[:1])
    else:
        lines += _bond(bond)
        lines += [_up(settings, nic) for nic in settings.nic_names]
        lines += [_option(bond, name) for name in _LAST if getattr(bond, name)]
        carriers = f"{bond.name} {' '.join(bond.slaves)}"
    # What "ready" means is in a file, for whoever asks later.
    lines += [_CARRIER, _wait(f"carrier {carriers}")]
    lines.append(f"echo $? >{READY_FILE}")
    return "\n".join(lines)


def remove_card(settings: MachineSettings, nic: str) -> str:
    """Shell commands that an administrator gives before a card is taken out."""
    device = f"/sys/bus/pci/devices/{_pci_name(settings, nic)}"
    return f"[ ! -e {device} ] || echo 1 >{device}/remove"


def add_card(settings: MachineSettings, nic: str) -> str:
    """Shell commands after a new card was put in: find it, wait for its driver, set it up."""
    return (
        f"echo 1 >/sys/bus/pci/rescan\n{_wait(f'[ -e /sys/class/net/{nic} ]')} || exit 1\n"
        f"{_up(settings, nic)}"
    )


def _pci_name(settings: MachineSettings, nic: str) -> str:
    return settings.nics[settings.nic_names.index(nic)].pci_name


def _bond(bond: BondSettings) -> list[str]:
    plain = BondSettings()
    lines = [f"ip link add {bond.name} type bond", _option(bond, "mode")]
    for name in BondSettings._fields:
        if name in (*_NO_OPTIONS, *_LAST, "mode"):
            continue
        if name == "miimon" or getattr(bond, name) != getattr(plain, name):
            lines.append(_option(bond, name))
    lines += [f"ip addr add {bond.address} dev {bond.name}", f"ip link set {bond.name} up"]
    return lines


def _option(bond: BondSettings, name: str) -> str:
    value = getattr(bond, name)
    file = f"/sys/class/net/{bond.name}/bonding/{name}"
    if isinstance(value, tuple):
        return "\n".join(f"echo +{one} >{file}" for one in value)
    return f"echo {value} >{file}"


def _up(settings: MachineSettings, nic: str) -> str:
    """A NIC as this machine uses it."""
    bond = settings.bond
    if bond is not None and nic in bond.slaves:
        return f"ip link set {nic} down\nip link set {nic} master {bond.name}"
    address = ""
    if bond is None and nic == settings.nic_names[0]:
        address = f"ip addr replace {settings.address} dev {nic}\n"
    return f"{address}ip link set {nic} up"


def _wait(condition: str) -> str:
    return (
        f"tenths=0\nwhile ! {{ {condition}; }} && [ $tenths -lt {_LINK_TENTHS} ]; do "
        "sleep 0.1; tenths=$((tenths + 1)); done\n"
        f"[ $tenths -lt {_LINK_TENTHS} ]"
    )
