"""A port's key and link: what its device says of speed and duplex, after bond_3ad.c.

Behaviour ``ad_link_change``: *begin* (a port whose link or speed changed begins anew), *reselect*
(6.1: the active aggregator is chosen again, and only another speed begins anew).
"""

from __future__ import annotations

from nodes.cpu.kernel.net.bonding.ad import (
    BEGIN,
    DUPLEX_KEY,
    LACP_ENABLED,
    SPEED_CODES,
    SPEED_KEY,
    Port,
)
from nodes.cpu.kernel.net.bonding.ad_select import agg_selection_logic

SPEED_ZERO = ("", "speed changed to 0 on port {number}")


def update_actor_keys(port: Port, speed: int, *, duplex: bool, reset: bool = False) -> None:
    """ad_update_actor_keys (6.1), and what older kernels do in its place: the key says speed (Mbps)
    and duplex; ``reset`` empties both."""
    ad = port.ad
    old = port.actor_oper_port_key
    code = 0 if reset else SPEED_CODES[ad.rules.speed_key].get(speed, 0)
    full = duplex and not reset
    port.actor_oper_port_key = old & ~(SPEED_KEY | DUPLEX_KEY) | code << 1 | full
    if ad.rules.link_change == "begin":
        port.set(BEGIN)
        return
    if old == port.actor_oper_port_key:
        return
    port.set(LACP_ENABLED, full)
    if reset:
        return
    if not code:
        ad.lines.append((SPEED_ZERO, port, port.actor_port_number))
    elif full and (old & SPEED_KEY) >> 1 != code:
        port.set(BEGIN)  # another speed: begin anew


def handle_link_change(port: Port, up: bool, speed: int, *, duplex: bool) -> None:
    """bond_3ad_handle_link_change."""
    port.is_enabled = up
    update_actor_keys(port, speed, duplex=duplex, reset=not up)
    if port.ad.rules.link_change == "reselect":
        agg_selection_logic(port.ad)


def initialize_key(port: Port, speed: int, *, duplex: bool) -> None:
    """bond_3ad_bind_slave: the first key; who is not full duplex takes no part in LACP."""
    code = SPEED_CODES[port.ad.rules.speed_key].get(speed, 0)
    port.actor_oper_port_key = port.ad.user_key << 6 | code << 1 | duplex
    port.set(LACP_ENABLED, duplex)


def adapter_speed_changed(port: Port, speed: int, *, duplex: bool) -> None:
    """bond_3ad_adapter_speed_duplex_changed: the device says something else than its key."""
    code = SPEED_CODES[port.ad.rules.speed_key].get(speed, 0)
    same = port.actor_oper_port_key & (SPEED_KEY | DUPLEX_KEY) == code << 1 | duplex
    if not same:
        update_actor_keys(port, speed, duplex=duplex)


def update_actor(port: Port) -> None:
    """bond_3ad_update_ad_actor_settings: another system or user key; the port begins anew."""
    ad = port.ad
    port.actor_system, port.actor_system_priority = ad.system, ad.system_priority
    port.actor_oper_port_key = port.actor_oper_port_key & (SPEED_KEY | DUPLEX_KEY)
    port.actor_oper_port_key |= ad.user_key << 6
    port.ntt = True
