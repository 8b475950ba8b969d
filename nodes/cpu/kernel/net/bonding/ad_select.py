"""Which port belongs to which aggregator, and which aggregator is the active one.

After ad_port_selection_logic, ad_agg_selection_logic and ad_agg_selection_test of bond_3ad.c.
Behaviours: ``ad_candidates`` (*any-port*: an aggregator with a port may become the active one;
*enabled-port*: one of its ports must be up, with a running device that has carrier) and
``ad_selection_wait`` (*timer*: 2.6.18 chooses no active aggregator before ``agg_select_timer`` has
run out; *none*: a port that joins makes it choose).
"""

from __future__ import annotations

from nodes.cpu.kernel.net.bonding.ad import (
    DUPLEX_KEY,
    READY,
    READY_N,
    SELECTED,
    AdBond,
    Aggregator,
    Port,
)
from nodes.slowproto import SYNCHRONIZATION

NO_RESPONSE = (
    "Warning: No 802.3ad response from the link partner for any adapters in the bond",
) * 2
NO_AGGREGATOR = (
    "Port {number} (on {dev}) did not find a suitable aggregator",
    "Port {number} did not find a suitable aggregator",
)
REMOVING_ACTIVE = ("Removing an active aggregator",) * 2


def set_ready(agg: Aggregator) -> None:
    """READY of all ports of an aggregator: once each of them is READY_N."""
    ready = all(port.has(READY_N) for port in agg.lag_ports)
    for port in agg.lag_ports:
        port.set(READY, ready)


def port_selection_logic(port: Port) -> None:
    """A port that is not SELECTED leaves its aggregator and joins the first that suits it."""
    if port.has(SELECTED):
        return
    ad = port.ad
    if port.aggregator is not None:
        leave(port)
    agg = next((agg for agg in ad.aggregators if _suits(agg, port)), None)
    if agg is None:
        agg = next((agg for agg in ad.aggregators if not agg.lag_ports), None)
        if agg is None:
            ad.lines.append((NO_AGGREGATOR, port, port.actor_port_number))
            return
        agg.is_individual = not port.actor_oper_port_key & DUPLEX_KEY
        agg.actor_oper_aggregator_key = port.actor_oper_port_key
        agg.partner_system = port.partner_oper.system
        agg.partner_system_priority = port.partner_oper.system_priority
        agg.partner_oper_aggregator_key = port.partner_oper.key
    port.aggregator = agg
    agg.lag_ports.insert(0, port)
    port.set(SELECTED)
    set_ready(agg)
    if ad.rules.selection_wait == "none" or not ad.agg_select_timer:
        agg_selection_logic(ad)
    if ad.rules.attached_sync == "if-active" and not agg.is_active:
        port.set_state(SYNCHRONIZATION, False)


def leave(port: Port) -> None:
    """The port leaves its aggregator; an empty one is cleared."""
    agg = port.aggregator
    assert agg is not None
    agg.lag_ports.remove(port)
    port.aggregator = None
    if not agg.lag_ports:
        agg.clear()


def _suits(agg: Aggregator, port: Port) -> bool:
    partner = port.partner_oper
    return (
        bool(agg.lag_ports)
        and not agg.is_individual
        and agg.has_partner
        and agg.actor_oper_aggregator_key == port.actor_oper_port_key
        and agg.partner_system == partner.system
        and agg.partner_system_priority == partner.system_priority
        and agg.partner_oper_aggregator_key == partner.key
    )


def _candidate(agg: Aggregator) -> bool:
    if not agg.lag_ports:
        return False
    if agg.lag_ports[0].ad.rules.candidates == "any-port":
        return True
    return bool(agg.active_ports) and agg.lag_ports[0].device_up


def _bandwidth(agg: Aggregator) -> int:
    ports = agg.num_of_ports
    if agg.lag_ports and agg.lag_ports[0].ad.rules.candidates != "any-port":
        ports = agg.active_ports
    return ports * agg.lag_ports[0].speed if agg.lag_ports else 0


def better(best: Aggregator | None, other: Aggregator, policy: str) -> Aggregator:
    """ad_agg_selection_test: ``other`` only if it is strictly better."""
    if best is None:
        return other
    if other.is_individual != best.is_individual:
        return best if other.is_individual else other
    if other.has_partner != best.has_partner:
        return other if other.has_partner else best
    if policy == "count" and other.active_ports != best.active_ports:
        return other if other.active_ports > best.active_ports else best
    return other if _bandwidth(other) > _bandwidth(best) else best


def _stays(active: Aggregator, best: Aggregator) -> bool:
    """Policy stable: the active one stays while it has a port that is up, and its partner answers
    or the best one's does not either; unless only the best one has a key (a speed)."""
    if not active.active_ports:
        return False
    if not active.has_partner and best.has_partner:
        return False
    return bool(active.actor_oper_aggregator_key) or not best.actor_oper_aggregator_key


def agg_selection_logic(ad: AdBond) -> None:
    """Choose the active aggregator."""
    policy = ad.params.ad_select
    active = ad.active_aggregator()
    best = active if active is not None and _candidate(active) else None
    for agg in ad.aggregators:
        agg.is_active = False
        if _candidate(agg):
            best = better(best, agg, policy)
    keep = best is active or (policy == "stable" and best and active and _stays(active, best))
    if active is not None and keep:
        best = None
        active.is_active = True
    if best is not None:
        for port in active.lag_ports if active is not None else ():
            port.active = False
        if best.is_individual:
            ad.lines.append((NO_RESPONSE, None, 0))
        best.is_active = True
    chosen = ad.active_aggregator()
    if chosen is not None and not chosen.has_partner:
        for port in chosen.lag_ports:
            port.enable()
    ad.carrier_due = True


def unbind_port(ad: AdBond, port: Port, own: Aggregator) -> None:
    """bond_3ad_unbind_slave: the slave's port leaves; other ports that stand in its aggregator move
    to another one, with all it says."""
    port.set_state(SYNCHRONIZATION | 0x04, False)  # tell the partner that it aggregates no more
    ad.sends.append((port, port.lacpdu))
    others = [member for member in own.lag_ports if member is not port]
    removed_active = False
    if others:
        heir = next(
            (agg for agg in ad.aggregators if agg is not own and agg.lag_ports in ([], [port])),
            None,
        )
        if heir is not None:
            removed_active = heir.is_active and heir.lag_ports == [port]
            if port in heir.lag_ports:
                port.aggregator = None
            for name in (
                "is_individual", "actor_oper_aggregator_key", "partner_system",
                "partner_system_priority", "partner_oper_aggregator_key", "is_active",
            ):  # fmt: skip
                setattr(heir, name, getattr(own, name))
            heir.lag_ports = others
            for member in others:
                member.aggregator = heir
            if port.aggregator is own:
                port.aggregator = None
            own.clear()
    if port.aggregator is not None:
        agg = port.aggregator
        was_active = agg.is_active
        leave(port)
        removed_active = removed_active or (was_active and not agg.lag_ports)
    if own in ad.aggregators:
        ad.aggregators.remove(own)
    ad.ports.remove(port)
    if removed_active:
        ad.lines.append((REMOVING_ACTIVE, port, 0))
        agg_selection_logic(ad)
    port.active = False
