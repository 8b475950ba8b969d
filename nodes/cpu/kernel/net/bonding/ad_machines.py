"""The state machines of a port, each run once a tick (100 ms), after bond_3ad.c.

    RX        INITIALIZE -> PORT_DISABLED -link-> EXPIRED -3 s-> DEFAULTED
                                           EXPIRED, DEFAULTED, CURRENT -PDU-> CURRENT
                                           CURRENT -3 s or 90 s-> EXPIRED
    PERIODIC  NO_PERIODIC -> FAST or SLOW -1 s or 30 s-> TX -> FAST or SLOW, as the partner asks
    MUX       DETACHED -selected-> WAITING -2 s, all ready-> ATTACHED -partner in sync-> COLL_DIST
    TX        a PDU if there is something to say, three times a second at the most
    CHURN     monitoring -60 s-> none, or churned (6.1)

A received PDU runs RX at once; everything else reacts at the next tick. Behaviours of ``AdRules``
are asked where they matter.
"""

from __future__ import annotations

from nodes.cpu.kernel.net.bonding.ad import (
    BEGIN,
    CHURN_S,
    CHURNED,
    DUPLEX_KEY,
    FAST_PERIODIC_S,
    LACP_ENABLED,
    LONG_TIMEOUT_S,
    MATCHED,
    READY,
    READY_N,
    SELECTED,
    SHORT_TIMEOUT_S,
    SLOW_PERIODIC_S,
    TICKS_PER_S,
    TX_TICKS,
    WAIT_WHILE_S,
    AdBond,
    Port,
)
from nodes.cpu.kernel.net.bonding.ad_select import (
    agg_selection_logic,
    port_selection_logic,
    set_ready,
)
from nodes.slowproto import (
    ACTIVITY,
    AGGREGATION,
    COLLECTING,
    DEFAULTED,
    DISTRIBUTING,
    EXPIRED,
    SYNCHRONIZATION,
    TIMEOUT,
    Lacpdu,
    PortParams,
)

_CHECK = (
    "\nCheck the configuration to verify that all adapters are connected to 802.3ad compliant "
    "switch ports"
)
LOOPBACK = (
    "An illegal loopback occurred on adapter ({dev})." + _CHECK,
    "An illegal loopback occurred on slave" + _CHECK,
)

# ---------------------------------------------------------------- receive


def _same(a: PortParams, b: PortParams, state_bits: int) -> bool:
    """Are these the same end of a link, with these bits of its state the same?"""
    return a[:5] == b[:5] and not (a.port_state ^ b.port_state) & state_bits


def _record_default(port: Port) -> None:
    port.partner_oper = port.partner_admin
    port.set_state(DEFAULTED)


def _choose_matched(port: Port, pdu: Lacpdu) -> None:
    alone = not pdu.actor.port_state & AGGREGATION
    port.set(MATCHED, alone or _same(pdu.partner, port.actor, AGGREGATION))


def _record_pdu(port: Port, pdu: Lacpdu) -> None:
    _choose_matched(port, pdu)
    port.partner_oper = pdu.actor
    port.set_state(DEFAULTED, False)
    in_sync = port.has(MATCHED) and bool(pdu.actor.port_state & SYNCHRONIZATION)
    port.set_partner_state(SYNCHRONIZATION, in_sync)


def _rx_next(port: Port, pdu: Lacpdu | None) -> str:
    state = port.rx_state
    if port.has(BEGIN):
        port.set(CHURNED)
        return "initialize"
    if not port.is_enabled:
        return "port_disabled"
    if pdu is not None and state in ("expired", "defaulted", "current"):
        if state != "current":
            port.set(CHURNED)
        port.rx_timer = 0
        return "current"
    if port.rx_timer:
        port.rx_timer -= 1
        if not port.rx_timer:
            return {"expired": "defaulted", "current": "expired"}.get(state, state)
    elif state == "port_disabled":
        return "expired" if port.has(LACP_ENABLED) else "lacp_disabled"
    return state


def rx_machine(port: Port, pdu: Lacpdu | None = None) -> None:
    last = port.rx_state
    port.rx_state = _rx_next(port, pdu)
    if port.rx_state != last or pdu is not None:
        _RX_ENTRY[port.rx_state](port, pdu)


def _rx_initialize(port: Port, pdu: Lacpdu | None) -> None:
    port.set(LACP_ENABLED, bool(port.actor_oper_port_key & DUPLEX_KEY))
    port.set(SELECTED, False)
    _record_default(port)
    port.set_state(EXPIRED, False)
    port.rx_state = "port_disabled"
    port.set(MATCHED, False)


def _rx_port_disabled(port: Port, pdu: Lacpdu | None) -> None:
    port.set(MATCHED, False)


def _rx_lacp_disabled(port: Port, pdu: Lacpdu | None) -> None:
    port.set(SELECTED, False)
    _record_default(port)
    port.set_partner_state(AGGREGATION, False)
    port.set(MATCHED)
    port.set_state(EXPIRED, False)


def _rx_expired(port: Port, pdu: Lacpdu | None) -> None:
    port.set_partner_state(SYNCHRONIZATION, False)
    port.set(MATCHED, False)
    port.set_partner_state(TIMEOUT)
    if port.ad.rules.expired_partner == "timeout+activity":
        port.set_partner_state(ACTIVITY)
    port.rx_timer = SHORT_TIMEOUT_S * TICKS_PER_S
    port.set_state(EXPIRED)
    port.set(CHURNED)


def _rx_defaulted(port: Port, pdu: Lacpdu | None) -> None:
    if not _same(port.partner_oper, port.partner_admin, AGGREGATION):
        port.set(SELECTED, False)
    _record_default(port)
    port.set(MATCHED)
    port.set_state(EXPIRED, False)


def _rx_current(port: Port, pdu: Lacpdu | None) -> None:
    assert pdu is not None
    if pdu.actor.system == port.actor_system:
        port.ad.lines.append((LOOPBACK, port, 0))
        return
    if not _same(pdu.actor, port.partner_oper, AGGREGATION):
        port.set(SELECTED, False)
    if not _same(pdu.partner, port.actor, ACTIVITY | TIMEOUT | SYNCHRONIZATION | AGGREGATION):
        port.ntt = True
    _record_pdu(port, pdu)
    short = port.actor_oper_port_state & TIMEOUT
    port.rx_timer = (SHORT_TIMEOUT_S if short else LONG_TIMEOUT_S) * TICKS_PER_S
    port.set_state(EXPIRED, False)
    if port.ad.rules.matched_again == "yes":
        _choose_matched(port, pdu)
        agg = port.aggregator
        if agg is not None and agg.is_active and port.mux_state == "collecting_distributing":
            port.enable()


_RX_ENTRY = {
    "initialize": _rx_initialize,
    "port_disabled": _rx_port_disabled,
    "lacp_disabled": _rx_lacp_disabled,
    "expired": _rx_expired,
    "defaulted": _rx_defaulted,
    "current": _rx_current,
}

# ---------------------------------------------------------------- periodic, transmit


def _partner_wants(port: Port) -> str:
    return "fast" if port.partner_oper.port_state & TIMEOUT else "slow"


def periodic_machine(port: Port) -> None:
    last = state = port.periodic_state
    somebody_active = (port.actor_oper_port_state | port.partner_oper.port_state) & ACTIVITY
    if (
        port.has(BEGIN)
        or not port.has(LACP_ENABLED)
        or not port.is_enabled
        or not somebody_active
        or port.ad.params.lacp_active == "off"
    ):
        state = "no_periodic"
    elif port.periodic_timer:
        port.periodic_timer -= 1
        if not port.periodic_timer:
            state = "tx"
        elif state == "fast":
            state = _partner_wants(port)
        elif state == "slow" and _partner_wants(port) == "fast":
            port.periodic_timer = 0
            state = "tx"
    elif state == "no_periodic":
        state = "fast"
    elif state == "tx":
        state = _partner_wants(port)
    if state == last:
        return
    port.periodic_state = state
    if state == "tx":
        port.ntt = True
    else:  # less the tick that was lost in TX
        seconds = {"no_periodic": 0, "fast": FAST_PERIODIC_S, "slow": SLOW_PERIODIC_S}[state]
        port.periodic_timer = max(0, seconds * TICKS_PER_S - 1)


def tx_machine(port: Port) -> None:
    if not port.tx_timer:
        return
    port.tx_timer -= 1
    if port.tx_timer:
        return
    if port.ntt and port.has(LACP_ENABLED):
        port.ad.sends.append((port, port.lacpdu))
        port.ntt = False
    port.tx_timer = TX_TICKS


# ---------------------------------------------------------------- mux


def _mux_next(port: Port) -> str:
    state, agg = port.mux_state, port.aggregator
    if port.has(BEGIN):
        return "detached"
    if state == "detached":
        return "waiting" if port.has(SELECTED) else state
    if state not in ("waiting", "attached", "collecting_distributing"):
        return state
    if state != "collecting_distributing" and not port.has(SELECTED):
        port.set(READY_N, False)
        if agg is not None:
            set_ready(agg)
        return "detached"
    assert agg is not None or not port.has(SELECTED)
    if state == "waiting":
        assert agg is not None
        if port.mux_timer:
            port.mux_timer -= 1
            if not port.mux_timer:
                port.set(READY_N)
        set_ready(agg)
        return "attached" if port.has(READY) and not port.mux_timer else state
    follows = port.ad.rules.attached_sync == "if-active"
    in_sync = bool(port.partner_oper.port_state & SYNCHRONIZATION)
    if state == "attached":
        assert agg is not None
        if in_sync and not port.ad.agg_select_timer:
            return "collecting_distributing" if agg.is_active or not follows else state
        if follows and agg.is_active:
            port.set_state(SYNCHRONIZATION)
        return state
    ours = bool(port.actor_oper_port_state & SYNCHRONIZATION) or not follows
    if not port.has(SELECTED) or not in_sync or not ours:
        return "attached"
    if agg is not None and agg.is_active:
        port.enable()
    return state


def mux_machine(port: Port) -> None:
    last = port.mux_state
    port.mux_state = _mux_next(port)
    if port.mux_state == last:
        return
    agg = port.aggregator
    if port.mux_state == "waiting":
        port.mux_timer = WAIT_WHILE_S * TICKS_PER_S
        return
    if port.mux_state == "collecting_distributing":
        port.set_state(COLLECTING | DISTRIBUTING)
        if port.ad.rules.attached_sync == "if-active":
            port.set_state(SYNCHRONIZATION)
        if agg is not None and agg.is_active:
            port.enable()
    else:
        attached = port.mux_state == "attached"
        follows = port.ad.rules.attached_sync == "if-active"
        sync = attached and (not follows or (agg is not None and agg.is_active))
        port.set_state(SYNCHRONIZATION, sync)
        port.set_state(COLLECTING | DISTRIBUTING, False)
        if agg is not None and agg.has_partner:  # ad_disable_collecting_distributing
            port.active = False
    port.ntt = True


# ---------------------------------------------------------------- churn


def churn_machine(port: Port) -> None:
    """Is an end still out of sync a minute after something happened to it?"""
    if port.has(CHURNED):
        port.set(CHURNED, False)
        for side in ("actor", "partner"):
            port.churn_state[side] = "monitoring"
            port.churn_timer[side] = CHURN_S * TICKS_PER_S
        return
    for side in ("actor", "partner"):
        if not port.churn_timer[side]:
            continue
        port.churn_timer[side] -= 1
        if port.churn_timer[side] or port.churn_state[side] != "monitoring":
            continue
        state = port.actor_oper_port_state if side == "actor" else port.partner_oper.port_state
        if state & SYNCHRONIZATION:
            port.churn_state[side] = "none"
        else:
            port.churn_state[side] = "churned"
            port.churn_count[side] += 1


# ---------------------------------------------------------------- the bond


def state_machine_handler(ad: AdBond) -> None:
    """bond_3ad_state_machine_handler: one tick of all ports."""
    if not ad.ports:
        return
    if ad.agg_select_timer:
        ad.agg_select_timer -= 1
        if not ad.agg_select_timer:
            agg_selection_logic(ad)
    for port in ad.ports:
        rx_machine(port)
        periodic_machine(port)
        port_selection_logic(port)
        mux_machine(port)
        tx_machine(port)
        if ad.rules.churn == "60s":
            churn_machine(port)
        port.set(BEGIN, False)
