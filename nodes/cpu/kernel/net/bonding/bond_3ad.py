"""Mode 4, 802.3ad: link aggregation that both ends have agreed on, after bond_3ad.c.

The machines (``ad_machines``, ``ad_select``) run in a work of the bond every 100 ms; a received
PDU runs the receive machine at once. What they ask for is done here: PDUs leave through their
slaves, lines go to the log, slaves become active or backups, the carrier follows. Frames leave
through the ports of the active aggregator, chosen by the transmit hash.

Behaviours: those of ``AdRules``, ``ad_open``, ``ad_set_carrier`` and ``hash_over``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel import words
from nodes.cpu.kernel.jiffies import msecs_to_jiffies
from nodes.cpu.kernel.net.bonding import ad_keys, ad_machines
from nodes.cpu.kernel.net.bonding.ad import (
    AGG_SELECT_TICKS,
    TICKS_PER_S,
    AdBond,
    AdParams,
    AdRules,
    Aggregator,
    Port,
)
from nodes.cpu.kernel.net.bonding.ad_select import unbind_port
from nodes.cpu.kernel.net.bonding.balance_xor import XorPort
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_UP,
    PROBE_CONSUMED,
    PROBE_PASS,
    Bonding,
    Slave,
    bond_publish,
)
from nodes.cpu.kernel.net.bonding.log import bond_log
from nodes.cpu.kernel.net.bonding.mode import Mode, bonding_mode
from nodes.cpu.kernel.net.bonding.select import (
    bond_set_carrier,
    is_up,
    set_state,
)
from nodes.cpu.kernel.net.mcast import dev_mc_add, dev_mc_del
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.xmit import dev_queue_xmit
from nodes.cpu.kernel.params import Params
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    cancel_delayed_work,
    queue_delayed_work,
)
from nodes.ledger import OTHER
from nodes.slowproto import (
    ETH_P_SLOW,
    MARKER_INFORMATION,
    MARKER_RESPONSE,
    SLOW_MULTICAST,
    TIMEOUT,
    lacpdu_frame,
    lacpdu_from,
    marker_frame,
    marker_from,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue import DelayedWork

AD_DELTA_MS = 1000 // TICKS_PER_S
TC_PRIO_CONTROL = 7


class AdInfo(NamedTuple):
    """struct ad_slave_info."""

    port: Port
    aggregator: Aggregator


def ad_rules(params: Params) -> AdRules:
    """The era's behaviours, as the machines want them."""
    return AdRules(
        speed_key=params.ad_speed_key,
        default_partner_state=params.ad_partner_default,
        expired_partner=params.ad_expired_partner,
        attached_sync=params.ad_attached_sync,
        candidates=params.ad_candidates,
        link_change=params.ad_link_change,
        carrier=params.ad_carrier,
        selection_wait=params.ad_selection_wait,
        matched_again=params.ad_matched_again,
        churn=params.ad_churn,
    )


class AdPort(XorPort):
    """bond_3ad_xor_xmit, bond_3ad_lacpdu_recv. ``extra`` is the active aggregator's slaves."""

    probes = True

    members: list[NetDevice]  # of the active aggregator
    sending: list[NetDevice]  # bond_update_slave_arr: those that could send when it was made

    def configure(self, cpu: Cpu) -> None:
        super().configure(cpu)
        self.members = [dev for dev in self.slaves if dev.ifindex in self.extra]
        self.sending = [dev for dev in self.members if dev in self.usable and self.can_send(dev)]

    def xmit_slave(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        if cpu.params.hash_over == "usable":
            sending = self.sending
            return sending[self.xmit_hash(cpu, skb) % len(sending)] if sending else None
        members = self.members
        if not members:
            return None
        start = self.xmit_hash(cpu, skb) % len(members)
        for dev in members[start:] + members[:start]:
            if dev in self.usable and self.can_send(dev):
                return dev
        return None

    def passes(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> bool:
        return skb.protocol == ETH_P_SLOW

    def recv_probe(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> int:
        return PROBE_CONSUMED if skb.protocol == ETH_P_SLOW else PROBE_PASS


@bonding_mode(AdPort)
class Ieee8023ad(Mode):
    name, number = "802.3ad", 4
    long_name = "IEEE 802.3ad Dynamic link aggregation"
    starts_active = False
    starts_inactive = True
    miimon_forced = True
    needs_speed = True
    arp_monitor = False
    hashes = True

    def __init__(self, bond: Bonding) -> None:
        super().__init__(bond)
        self.ad: AdBond | None = None
        self.work: DelayedWork | None = None

    # -- slaves

    def enslave(self, cpu: Cpu, slave: Slave) -> Context:
        """bond_3ad_initialize for the first one, bond_3ad_bind_slave."""
        ad = self._initialized(cpu)
        number = max((port.actor_port_number for port in ad.ports), default=0) + 1
        port = Port(ad, number, slave.dev.name)
        aggregator = Aggregator(number, self.bond.dev.dev_addr)
        slave.mode_info = AdInfo(port, aggregator)
        self._look(slave)
        speed = slave.speed if port.link_up else 0
        ad_keys.initialize_key(port, speed, duplex=port.link_up and speed > 0)
        ad.ports.append(port)
        ad.aggregators.append(aggregator)
        yield from dev_mc_add(cpu, slave.dev, SLOW_MULTICAST)

    def _initialized(self, cpu: Cpu) -> AdBond:
        settings, mac = self.bond.settings, self.bond.dev.dev_addr
        if self.ad is None or not self.ad.ports:
            waits = AGG_SELECT_TICKS
            system = bytes.fromhex(settings.ad_actor_system.replace(":", ""))
            self.ad = AdBond(
                ad_rules(cpu.params),
                self._params(),
                system if any(system) else mac,
                settings.ad_actor_sys_prio,
                settings.ad_user_port_key,
            )
            self.ad.agg_select_timer = waits
        return self.ad

    def _params(self) -> AdParams:
        settings = self.bond.settings
        return AdParams(
            settings.lacp_rate, settings.lacp_active, settings.ad_select, settings.min_links
        )

    def unbind(self, cpu: Cpu, slave: Slave) -> Context:
        info: AdInfo | None = slave.mode_info
        if self.ad is not None and info is not None:
            self._look(slave)
            unbind_port(self.ad, info.port, info.aggregator)
            yield from self._send_all(cpu, slave)
            slave.mode_info = None
            yield from dev_mc_del(cpu, slave.dev, SLOW_MULTICAST)
            yield from self._settle(cpu)

    def link_change(self, cpu: Cpu, slave: Slave, link: int) -> Context:
        """bond_3ad_handle_link_change."""
        info: AdInfo | None = slave.mode_info
        if info is None:
            return
        self._look(slave)
        info.port.active = not slave.backup
        up = link == BOND_LINK_UP
        ad_keys.handle_link_change(info.port, up, slave.speed, duplex=slave.speed > 0)
        yield from self._settle(cpu)

    def speed_changed(self, cpu: Cpu, slave: Slave) -> None:
        """bond_3ad_adapter_speed_duplex_changed."""
        info: AdInfo | None = slave.mode_info
        if info is not None:
            up = slave.link == BOND_LINK_UP
            speed = slave.speed if up else 0
            ad_keys.adapter_speed_changed(info.port, speed, duplex=speed > 0)
            self._say(cpu)

    def backup_after_up(self, slave: Slave) -> bool:
        return True

    def _look(self, slave: Slave) -> None:
        info: AdInfo = slave.mode_info
        info.port.device_up = is_up(slave)
        info.port.link_up = info.port.device_up and slave.link == BOND_LINK_UP

    # -- the bond

    def has_carrier(self, cpu: Cpu) -> bool:
        return self.ad is not None and self.ad.has_carrier()

    def tells_carrier(self, cpu: Cpu) -> bool:
        """6.1 says that it changed whenever there is a slave."""
        return cpu.params.ad_set_carrier == "tells-always" and bool(self.bond.slaves)

    def open(self, cpu: Cpu) -> Context:
        if self.work is None:
            self.work = INIT_DELAYED_WORK(
                cpu, words.AD_WORK, "bond_3ad_state_machine_handler", self._tick
            )
        if cpu.params.ad_open == "one-tick" and self.ad is not None:
            self.ad.agg_select_timer = 1
        yield from queue_delayed_work(cpu, self.bond.wq, self.work, 0)

    def close(self, cpu: Cpu) -> Context:
        if self.work is not None:
            yield from cancel_delayed_work(cpu, self.work)

    def option_changed(self, cpu: Cpu, name: str) -> Context:
        """lacp_rate is each port's own bit; what an actor is called reaches ports at once."""
        ad, settings = self.ad, self.bond.settings
        if ad is None:
            return
        ad.params = self._params()
        if name == "lacp_rate":
            for port in ad.ports:
                port.set_state(TIMEOUT, settings.lacp_rate == "fast")
        elif name in ("ad_actor_sys_prio", "ad_user_port_key", "ad_actor_system"):
            system = bytes.fromhex(settings.ad_actor_system.replace(":", ""))
            ad.system = system if any(system) else self.bond.dev.dev_addr
            ad.system_priority, ad.user_key = settings.ad_actor_sys_prio, settings.ad_user_port_key
            for port in ad.ports:
                ad_keys.update_actor(port)
        elif name == "min_links":
            yield from bond_set_carrier(cpu, self.bond)

    def extra(self) -> Any:
        agg = self.ad.active_aggregator() if self.ad is not None else None
        if agg is None:
            return ()
        return tuple(
            slave.dev.ifindex
            for slave in self.bond.slaves
            if slave.mode_info is not None and slave.mode_info.port in agg.lag_ports
        )

    # -- the tick

    def _tick(self, cpu: Cpu) -> Context:
        """bond_3ad_state_machine_handler."""
        if self.ad is not None:
            for slave in self.bond.slaves:
                if slave.mode_info is not None:
                    self._look(slave)
            ad_machines.state_machine_handler(self.ad)
            yield from self._send_all(cpu)
            if self.ad.lines or self.ad.carrier_due or self._changed():
                yield from cpu.net.rtnl.lock(cpu)
                yield from self._settle(cpu)
                cpu.net.rtnl.unlock(cpu)
        assert self.work is not None
        delay = msecs_to_jiffies(cpu, AD_DELTA_MS)
        yield from queue_delayed_work(cpu, self.bond.wq, self.work, delay)

    def _changed(self) -> list[Slave]:
        """Slaves whose port wants another state than they have."""
        return [
            slave
            for slave in self.bond.slaves
            if slave.mode_info is not None and slave.mode_info.port.active == slave.backup
        ]

    def _settle(self, cpu: Cpu) -> Context:
        """Do what the machines asked for; under RTNL."""
        assert self.ad is not None
        self._say(cpu)
        changed = self._changed()
        for slave in changed:
            yield from set_state(cpu, self.bond, slave, active=slave.mode_info.port.active)
        if changed or self.ad.carrier_due:
            yield from bond_publish(cpu, self.bond)
        if self.ad.carrier_due:
            self.ad.carrier_due = False
            yield from bond_set_carrier(cpu, self.bond)

    def _say(self, cpu: Cpu) -> None:
        assert self.ad is not None
        lines, self.ad.lines = self.ad.lines, []
        for event, port, number in lines:
            dev = cpu.net.device(port.name) if port is not None else None
            if event[cpu.params.log_format == "6.1"]:
                bond_log(cpu, self.bond, event, dev, number=number)

    # -- frames

    def _send_all(self, cpu: Cpu, leaving: Slave | None = None) -> Context:
        """ad_lacpdu_send: from the slave's own address."""
        assert self.ad is not None
        sends, self.ad.sends = self.ad.sends, []
        for port, pdu in sends:
            for slave in self.bond.slaves:
                if slave.mode_info is not None and slave.mode_info.port is port:
                    frame = lacpdu_frame(slave.perm_hwaddr, pdu)
                    yield from _send(cpu, slave.dev, frame)

    def received(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> Context:
        """bond_3ad_rx_indication."""
        for mine in self.bond.slaves:
            if mine.dev is not slave or mine.mode_info is None:
                continue
            pdu = lacpdu_from(skb.frame, strict=False)
            marker = marker_from(skb.frame)
            if pdu is not None:
                ad_machines.rx_machine(mine.mode_info.port, pdu)
                self._say(cpu)
            elif marker is not None and marker.kind == MARKER_INFORMATION:
                answer = marker_frame(mine.perm_hwaddr, marker._replace(kind=MARKER_RESPONSE))
                yield from _send(cpu, slave, answer)

    # -- files

    def snapshot(self, cpu: Cpu) -> dict[str, Any]:
        ad = self.ad
        if ad is None:
            return {}
        agg = ad.active_aggregator()
        system = {"system_priority": ad.system_priority, "system": ad.system}
        if agg is None:  # the attributes say 0, and of the partner nothing
            names = ("ad_aggregator", "ad_num_ports", "ad_actor_key", "ad_partner_key")
            return {**system, **dict.fromkeys(names, 0)}
        enabled = cpu.params.ad_num_ports == "enabled"
        return {
            **system,
            "ad_aggregator": agg.aggregator_identifier,
            "ad_num_ports": agg.active_ports if enabled else agg.num_of_ports,
            "ad_actor_key": agg.actor_oper_aggregator_key,
            "ad_partner_key": agg.partner_oper_aggregator_key,
            "ad_partner_mac": agg.partner_system.hex(":"),
        }

    def slave_snapshot(self, cpu: Cpu, slave: Slave) -> dict[str, Any]:
        info: AdInfo | None = slave.mode_info
        if info is None:
            return {}
        port, agg = info.port, info.port.aggregator
        return {
            "ad_aggregator_id": agg.aggregator_identifier if agg is not None else 0,
            "ad_actor_oper_port_state": port.actor_oper_port_state,
            "ad_partner_oper_port_state": port.partner_oper.port_state,
            "actor": tuple(port.actor),
            "partner": tuple(port.partner_oper),
            "churn_state": dict(port.churn_state),
            "churn_count": dict(port.churn_count),
            "machines": (port.rx_state, port.periodic_state, port.mux_state),
        }


def _send(cpu: Cpu, dev: NetDevice, frame: bytes) -> Context:
    skb = SkBuff(frame, dev, OTHER, 0)
    skb.protocol, skb.priority = ETH_P_SLOW, TC_PRIO_CONTROL
    yield from dev_queue_xmit(cpu, skb, dev)
