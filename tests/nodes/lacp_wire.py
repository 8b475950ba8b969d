"""Both ends of LACP on a desk: the kernel's machines in 100 ms ticks, the switch's by deadlines.

No CPU, no NIC: what one sends, the other has at once, unless a cable is out. Time is virtual.
"""

from __future__ import annotations

from typing import Any

from nodes.cpu.kernel.net.bonding.ad import AdBond, AdParams, Aggregator, Port
from nodes.cpu.kernel.net.bonding.ad_keys import handle_link_change
from nodes.cpu.kernel.net.bonding.ad_machines import rx_machine, state_machine_handler
from nodes.cpu.kernel.net.bonding.bond_3ad import ad_rules
from nodes.cpu.kernel.params import PRESETS
from nodes.lan.lacp import Partner
from nodes.machine import LacpSettings
from nodes.slowproto import Lacpdu, lacpdu_frame, lacpdu_from

TICK_NS = 100_000_000
BOND_MAC = bytes.fromhex("001b21000001")


class Wire:
    """A bond of ``ports`` ports; ``channels`` says which port is in which channel of the switch
    (None: the switch does not speak LACP there)."""

    def __init__(
        self,
        era: str = "6.1",
        *,
        ports: int = 2,
        channels: tuple[int | None, ...] = (0, 0),
        settings: LacpSettings | None = None,
        second: LacpSettings | None = None,
        **params: Any,
    ) -> None:
        self.now_ns = 0
        rules = ad_rules(PRESETS[era])
        self.ad = AdBond(rules, AdParams(**params), BOND_MAC)
        self.ad.agg_select_timer = 80
        self.said: list[str] = []
        self.from_kernel: list[tuple[float, int, Lacpdu]] = []
        self.from_switch: list[tuple[float, int, bytes]] = []
        self.cables = [True] * ports
        self.muxes: list[tuple[float, int, bool, bool]] = []
        for n in range(ports):
            port = Port(self.ad, n + 1, f"eth{n}")
            self.ad.ports.append(port)
            self.ad.aggregators.append(Aggregator(n + 1, BOND_MAC))
        self.partners: dict[int, Partner] = {}
        for number in {c: None for c in channels if c is not None}:
            members = [(n, f"eth{n}") for n, c in enumerate(channels) if c == number]
            chosen = settings if not number else second
            partner = Partner(members, chosen or LacpSettings(), self)
            for n, _ in members:
                self.partners[n] = partner
        for n in range(ports):
            self.link(n, True)

    # -- the switch

    def mux(self, port: int, collecting: bool, distributing: bool) -> None:
        self.muxes.append((self.seconds, port, collecting, distributing))

    def emit(self, port: int, frame: bytes) -> None:
        self.from_switch.append((self.seconds, port, frame))
        pdu = lacpdu_from(frame, strict=False)
        if self.cables[port] and pdu is not None:
            rx_machine(self.ad.ports[port], pdu)

    # -- events

    @property
    def seconds(self) -> float:
        return self.now_ns / 1e9

    def link(self, n: int, up: bool) -> None:
        self.cables[n] = up
        port = self.ad.ports[n]
        port.link_up = port.device_up = up
        if not up:
            port.active = False  # the core does that
        handle_link_change(port, up, 10000 if up else 0, duplex=up)
        if n in self.partners:
            self.partners[n].link(n, up, self.now_ns)
        self._outside()

    def _outside(self) -> None:
        self.said += [event[1] for event, _, _ in self.ad.lines]
        self.ad.lines.clear()
        while self.ad.sends:
            port, pdu = self.ad.sends.pop(0)
            n = port.actor_port_number - 1
            self.from_kernel.append((self.seconds, n, pdu))
            if n in self.partners and self.cables[n]:
                self.partners[n].receive(n, lacpdu_frame(BOND_MAC, pdu), self.now_ns)

    def run(self, seconds: float) -> None:
        end = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end:
            self.now_ns += TICK_NS
            for partner in dict(enumerate(self.partners.values())).values():
                due = partner.next_ns()
                if due is not None and due <= self.now_ns:
                    partner.tick(self.now_ns)
            state_machine_handler(self.ad)
            self._outside()

    def until(self, done: Any, limit_s: float = 100) -> float:
        """Seconds at which ``done()`` was first true."""
        end = self.now_ns + round(limit_s * 1e9)
        while not done():
            assert self.now_ns < end, "it never happened"
            self.run(0.1)
        return self.seconds

    # -- what there is

    def muxed(self) -> list[str]:
        return [port.mux_state for port in self.ad.ports]

    def active(self) -> list[bool]:
        return [port.active for port in self.ad.ports]
