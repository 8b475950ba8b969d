"""Ports and aggregators of 802.3ad, after bond_3ad.h: the state that the machines work on.

Each slave has a ``Port`` and an ``Aggregator`` of its own; ports join one of the aggregators, and
one aggregator is active. All of it belongs to the boot CPU. The machines (``ad_machines``,
``ad_select``) are plain functions over it: what they want done outside (send a PDU, say a line, let
a slave send or not) they leave in ``AdBond.sends``, ``.lines`` and in ``Port.active`` for
``bond_3ad`` to do.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.slowproto import (
    ACTIVITY,
    AGGREGATION,
    Lacpdu,
    PortParams,
)

TICKS_PER_S = 10
FAST_PERIODIC_S, SLOW_PERIODIC_S = 1, 30
SHORT_TIMEOUT_S, LONG_TIMEOUT_S = 3, 90
WAIT_WHILE_S, CHURN_S = 2, 60
AGG_SELECT_TICKS = 80  # BOND_3AD_INITIALIZE: 8 s
TX_TICKS = TICKS_PER_S // 3  # at most three PDUs a second
NULL_MAC = bytes(6)

# sm_vars
BEGIN, LACP_ENABLED, CHURNED = 0x1, 0x2, 0x80
READY, READY_N, MATCHED, SELECTED = 0x10, 0x20, 0x40, 0x100

DUPLEX_KEY, SPEED_KEY, USER_KEY = 0x1, 0x3E, 0xFFC0

#: By behaviour ``ad_speed_key``: Mbps -> code.
SPEED_CODES = {
    "bitmask": {1: 1, 10: 2, 100: 4, 1000: 8, 10000: 16},
    "number": {1: 1, 10: 2, 100: 3, 1000: 4, 2500: 5, 5000: 6, 10000: 7, 20000: 8, 25000: 9,
               40000: 10, 50000: 12, 56000: 13, 100000: 14},
}  # fmt: skip
_MBPS = {how: {code: mbps for mbps, code in codes.items()} for how, codes in SPEED_CODES.items()}


class AdRules(NamedTuple):
    """What differs by era: named behaviours of ``params`` (there explained)."""

    speed_key: str
    default_partner_state: int
    expired_partner: str
    attached_sync: str
    candidates: str
    link_change: str
    carrier: str
    selection_wait: str
    matched_again: str
    churn: str


#: (text up to 3.10, text of 6.1), as ``bond_log`` wants them.
Event = tuple[str, str]


class AdParams(NamedTuple):
    """The bond's parameters that the machines look at."""

    lacp_rate: str = "slow"
    lacp_active: str = "on"
    ad_select: str = "stable"
    min_links: int = 0


class Aggregator:
    """struct aggregator."""

    def __init__(self, identifier: int, mac: bytes) -> None:
        self.aggregator_identifier = identifier
        self.aggregator_mac_address = mac
        self.lag_ports: list[Port] = []  # who joined last stands first, as in Linux's list
        self.clear()

    def clear(self) -> None:
        """ad_clear_agg."""
        self.is_individual = False
        self.actor_oper_aggregator_key = 0
        self.partner_system = NULL_MAC
        self.partner_system_priority = 0
        self.partner_oper_aggregator_key = 0
        self.lag_ports = []
        self.is_active = False

    @property
    def has_partner(self) -> bool:
        return self.partner_system != NULL_MAC

    @property
    def num_of_ports(self) -> int:
        return len(self.lag_ports)

    @property
    def active_ports(self) -> int:
        """__agg_active_ports: those whose link is up."""
        return sum(port.is_enabled for port in self.lag_ports)


class Port:
    """struct port. ``active`` is what the machines want of its slave: may it carry traffic?"""

    def __init__(self, ad: AdBond, number: int, name: str) -> None:
        self.ad = ad
        self.name = name  # of the slave
        self.actor_port_number = number
        self.actor_port_priority = 255
        self.actor_system = ad.system
        self.actor_system_priority = ad.system_priority
        self.user_key = ad.user_key
        self.actor_oper_port_key = ad.user_key << 6
        self.actor_oper_port_state = ACTIVITY | AGGREGATION
        if ad.params.lacp_rate == "fast":
            self.actor_oper_port_state |= 2
        self.partner_admin = PortParams(0xFFFF, NULL_MAC, 1, 255, 1, ad.rules.default_partner_state)
        self.partner_oper = self.partner_admin
        self.sm_vars = BEGIN | LACP_ENABLED
        self.is_enabled = True
        self.aggregator: Aggregator | None = None
        self.rx_state = "dummy"
        self.rx_timer = 0
        self.periodic_state = "dummy"
        self.periodic_timer = 0
        self.mux_state = "dummy"
        self.mux_timer = 0
        self.tx_timer = TX_TICKS
        self.ntt = False
        self.churn_state = {"actor": "monitoring", "partner": "monitoring"}
        self.churn_timer = {"actor": 0, "partner": 0}
        self.churn_count = {"actor": 0, "partner": 0}
        self.active = False
        # what the bond tells it of its slave
        self.device_up = False  # it runs and has its carrier
        self.link_up = False  # and bonding has committed that

    @property
    def actor(self) -> PortParams:
        return PortParams(
            self.actor_system_priority,
            self.actor_system,
            self.actor_oper_port_key,
            self.actor_port_priority,
            self.actor_port_number,
            self.actor_oper_port_state,
        )

    @property
    def lacpdu(self) -> Lacpdu:
        """__update_lacpdu_from_port."""
        return Lacpdu(self.actor, self.partner_oper)

    @property
    def speed(self) -> int:
        """Mbps, as its key has it."""
        codes = _MBPS[self.ad.rules.speed_key]
        return codes.get((self.actor_oper_port_key & SPEED_KEY) >> 1, 0)

    def enable(self) -> None:
        """__enable_port: not while its link is down."""
        self.active = self.active or self.link_up

    def has(self, variable: int) -> bool:
        return bool(self.sm_vars & variable)

    def set(self, variable: int, on: bool = True) -> None:
        self.sm_vars = self.sm_vars | variable if on else self.sm_vars & ~variable

    def set_state(self, bits: int, on: bool = True) -> None:
        state = self.actor_oper_port_state
        self.actor_oper_port_state = state | bits if on else state & ~bits

    def set_partner_state(self, bits: int, on: bool = True) -> None:
        state = self.partner_oper.port_state
        state = state | bits if on else state & ~bits
        self.partner_oper = self.partner_oper._replace(port_state=state)


class AdBond:
    """struct ad_bond_info with the ports of a bond, in the order of its slaves."""

    def __init__(
        self,
        rules: AdRules,
        params: AdParams,
        system: bytes,
        system_priority: int = 0xFFFF,
        user_key: int = 0,
    ) -> None:
        self.rules = rules
        self.params = params
        self.system = system
        self.system_priority = system_priority
        self.user_key = user_key
        self.ports: list[Port] = []
        self.aggregators: list[Aggregator] = []  # of the slaves, in their order
        self.agg_select_timer = 0
        # what is to be done outside
        self.sends: list[tuple[Port, Lacpdu]] = []
        self.lines: list[tuple[Event, Port | None, int]] = []  # what, of whom, a number in it
        self.carrier_due = False

    def active_aggregator(self) -> Aggregator | None:
        return next((agg for agg in self.aggregators if agg.is_active), None)

    def has_carrier(self) -> bool:
        """bond_3ad_set_carrier: by behaviour ``ad_carrier``."""
        agg, rule = self.active_aggregator(), self.rules.carrier
        if agg is None:
            return False
        if rule == "partner":
            return agg.has_partner
        if rule == "active":
            return True
        attached = agg.num_of_ports if rule == "attached-ports" else agg.active_ports
        return attached >= self.params.min_links
