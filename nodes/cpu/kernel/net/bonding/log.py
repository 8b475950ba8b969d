"""Lines that bonding writes into the kernel log, by era (``log_format``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.printk import printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.bonding.bond import Bonding
    from nodes.cpu.kernel.percpu import Cpu

_OLD_SPEED = {"2.6.18": ".", "3.10": ", {speed} Mbps full duplex."}


class LOG:
    """Events; each value is (text up to 3.10, text of 6.1). {dev} stands where old kernels name it;
    6.1 names the slave in the prefix instead."""

    enslaving = (
        "enslaving {dev} as {role} interface with {state} link.",
        "Enslaving as {role} interface with {state} link",
    )
    releasing = ("releasing {role} interface {dev}", "Releasing {role} interface")
    hwaddr_in_use = (
        "Warning: the permanent HWaddr of {dev} - {mac} - is still in use by {master}. "
        "Set the HWaddr of {dev} to a different address to avoid conflicts.",
        "the permanent HWaddr of slave - {mac} - is still in use by bond - "
        "set the HWaddr of slave to a different address to avoid conflicts",
    )
    down_start = (
        "link status down for {role}interface {dev}, disabling it in {ms} ms.",
        "link status down for {role}interface, disabling it in {ms} ms",
    )
    up_again = (
        "link status up again after {ms} ms for interface {dev}.",
        "link status up again after {ms} ms",
    )
    definitely_down = (
        "link status definitely down for interface {dev}, disabling it",
        "link status definitely down, disabling slave",
    )
    up_start = (
        "link status up for interface {dev}, enabling it in {ms} ms.",
        "link status up, enabling it in {ms} ms",
    )
    down_again = (
        "link status down again after {ms} ms for interface {dev}.",
        "link status down again after {ms} ms",
    )
    definitely_up = (
        "link status definitely up for interface {dev}{speed_text}",
        "link status definitely up, {speed} Mbps full duplex",
    )
    no_speed = ("", "failed to get link speed/duplex")
    new_active = (
        "making interface {dev} the new active one.",
        "making interface the new active one",
    )
    new_active_earlier = (
        "making interface {dev} the new active one {ms} ms earlier.",
        "making interface the new active one {ms} ms earlier",
    )
    no_route = ("no route to arp_ip_target {target}",
                "no route to arp_ip_target {target} and arp_validate is set")  # fmt: skip
    no_path = ("no path to arp_ip_target {target} via rt.dev {via}",) * 2
    arp_first_up = ("link status definitely up for interface {dev}, ", "link status definitely up")
    arp_up = ("interface {dev} is now up", "interface is now up")
    arp_down = ("interface {dev} is now down.", "interface is now down")
    arp_definitely_up = (
        "link status definitely up for interface {dev}.",
        "link status definitely up",
    )
    arp_backup_down = ("backup interface {dev} is now down.", "backup interface is now down")
    # 2.6.18's
    old_active_up = ("{dev} is up and now the active interface", "")
    old_backup_up = ("backup interface {dev} is now up", "")
    old_backup_down = ("backup interface {dev} is now down", "")
    old_active_down = ("link status down for active interface {dev}, disabling it", "")
    old_to_primary = ("changing from interface {dev} to primary interface {primary}", "")
    carrier_on = ("first active interface up!", "active interface up!")
    carrier_off = (
        "now running without any active interface !",
        "now running without any active interface!",
    )


def bond_log(
    cpu: Cpu, bond: Bonding, event: tuple[str, str], dev: NetDevice | None, **values: object
) -> None:
    """Print one event of the bond (``dev`` None) or of its slave."""
    name = dev.name if dev is not None else ""
    era = cpu.params.log_format
    if era == "6.1":
        slave = f"(slave {name}): " if dev is not None else ""
        prefix, text = f"{bond.dev.name}: {slave}", event[1]
    else:
        prefix, text = f"bonding: {bond.dev.name}: ", event[0]
    speed = values.get("speed", 0)
    values["speed_text"] = _OLD_SPEED.get(era, "").format(speed=speed)
    printk(cpu, prefix + text.format(dev=name, **values))
