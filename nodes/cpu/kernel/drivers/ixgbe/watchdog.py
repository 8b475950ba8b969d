"""The other-cause interrupt, the service timer and the service task (ixgbe_main.c).

The timer runs every 2 s, every 100 ms while the link is being looked for, and only schedules the
work; the work resets what must be reset, looks for a module in the cage and sets it up, reads LINKS
when it was told to, updates statistics, kicks the queue vectors and asks each ring whether it
hangs.

A removed adapter is taken down at the beginning of the work and nowhere else. Behaviour
``service_event``: an event that comes while the work runs is lost, since the bit that says that it
is scheduled (__IXGBE_SERVICE_SCHED) is cleared at its end; so an adapter that this work finds gone
stays up until the timer's next round. Before 3.0 there is a work for each purpose and no such bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.drivers.ixgbe import common, configure, hw, mac82599, main, phy, regs, stats
from nodes.cpu.kernel.drivers.ixgbe.adapter import CHECK_FOR_TX_HANG, Adapter
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.jiffies import msecs_to_jiffies
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.timer import timer_setup
from nodes.cpu.kernel.workqueue import INIT_WORK, cancel_work, schedule_work

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

CHECK_LSC = 39  # record: the interrupt for other causes came on another CPU
TX_TIMEOUT = 149  # record: another CPU found a ring that hangs
SERVICE_MS, LINK_SEARCH_MS = 2000, 100
TRY_LINK_MS, SFP_POLL_MS = 4000, 2000


class Service:
    """Service state of one adapter on the boot CPU."""

    def __init__(self, cpu: Cpu, adapter: Adapter) -> None:
        self.scheduled = False  # __IXGBE_SERVICE_SCHED: queued or running
        self.removing = False  # __IXGBE_REMOVING
        self.need_link_update = False
        self.link_check_timeout = 0
        self.reset_requested = False
        self.link_up = False
        self.link_speed = 0
        self.lsc_int = 0
        self.sfp_needs_reset = True  # IXGBE_FLAG2_SEARCH_FOR_SFP and _SFP_NEEDS_RESET
        self.sfp_poll_time = 0
        self.need_link_config = False
        self.timer = timer_setup(
            cpu, lambda cpu: _service_timer(cpu, adapter), 0, "ixgbe_service_timer"
        )
        self.work = INIT_WORK(
            cpu,
            words.SERVICE_WORK + adapter.nic,
            "ixgbe_service_task",
            lambda cpu: _service_task(cpu, adapter),
        )


def init_service(cpu: Cpu, adapter: Adapter) -> None:
    adapter.service = Service(cpu, adapter)


def start_service(cpu: Cpu, adapter: Adapter) -> None:
    """End of ixgbe_up_complete: look for the link."""
    service = adapter.service
    service.need_link_update = True
    service.link_check_timeout = cpu.jiffies()
    service.sfp_needs_reset = True
    service.sfp_poll_time = 0
    cpu.timers.mod_timer(service.timer, cpu.jiffies())


def stop_timer(cpu: Cpu, adapter: Adapter) -> None:
    cpu.timers.del_timer(adapter.service.timer)


def stop_service(cpu: Cpu, adapter: Adapter) -> Context:
    service = adapter.service
    service.removing = True
    cpu.timers.del_timer(service.timer)
    yield from cancel_work(cpu, service.work)


def service_event_schedule(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_service_event_schedule."""
    service = adapter.service
    if adapter.down or service.removing:
        return
    if cpu.params.service_event == "lost-while-running":
        if service.scheduled:
            return
        service.scheduled = True
    yield from schedule_work(cpu, service.work)


def msix_other(cpu: Cpu, adapter: Adapter) -> Callable[[int, object], Context]:
    """Handler of the last vector: reads EICS (not EICR), clears what it saw.

    Behaviour ``msix_other``: the driver of 2.6.18 clears queue bits with the rest and enables only
    the summary bit again; the link's cause comes back with the watchdog."""

    def ixgbe_msix_other(_irq: int, _dev: object) -> Context:
        eicr = yield from hw.read_reg(cpu, adapter, regs.EICS)
        by_cause = cpu.params.msix_other == "cause-bits"
        if by_cause:
            eicr &= 0xFFFF_0000
        adapter.write_reg(regs.EICR, eicr)
        if eicr & regs.EICR_LSC and not adapter.removed:
            if not adapter.down:
                adapter.write_reg(regs.EIMC, regs.EICR_LSC)
                yield from hw.flush(cpu, adapter)
            if cpu.boot:
                yield from check_lsc(cpu, adapter)
            else:
                yield from call_function_single(cpu, 0, [CHECK_LSC, adapter.nic])
        if not adapter.down:
            again = configure.irq_mask(adapter) & ~regs.EICR_LSC if by_cause else regs.EICR_OTHER
            adapter.write_reg(regs.EIMS, again)
        return IRQ_HANDLED

    return ixgbe_msix_other


def check_lsc(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_check_lsc on the CPU that has the service's state: the link is to be looked at."""
    service = adapter.service
    service.lsc_int += 1
    service.need_link_update = True
    service.link_check_timeout = cpu.jiffies()
    if not adapter.down:
        yield from service_event_schedule(cpu, adapter)


@remote_function(CHECK_LSC)
def _remote_check_lsc(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    adapter = cpu.net.adapters.get(cpu.machine.nics[record[1]].name)
    return check_lsc(cpu, adapter) if adapter is not None else None


def _service_timer(cpu: Cpu, adapter: Adapter) -> Context:
    service = adapter.service
    wait_ms = LINK_SEARCH_MS if service.need_link_update else SERVICE_MS
    cpu.timers.mod_timer(service.timer, cpu.jiffies() + msecs_to_jiffies(cpu, wait_ms))
    yield from service_event_schedule(cpu, adapter)


def _service_task(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_service_task."""
    service = adapter.service
    if cpu.net.adapters.get(adapter.name) is adapter:
        if adapter.removed:
            yield from _removed(cpu, adapter)
        else:
            yield from _subtasks(cpu, adapter, service)
    service.scheduled = False  # ixgbe_service_event_complete


def _removed(cpu: Cpu, adapter: Adapter) -> Context:
    """The adapter was gone before this round began."""
    if not adapter.down:
        yield from cpu.net.rtnl.lock(cpu)
        yield from main.down(cpu, adapter)
        cpu.net.rtnl.unlock(cpu)


def _subtasks(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    """One that is found gone in here stays up until the next round."""
    yield from hw.check_fw_error(cpu, adapter)
    if adapter.removed or adapter.down:
        return
    if service.reset_requested:
        service.reset_requested = False
        hw.e_err(cpu, adapter, "Reset adapter")
        adapter.tx_timeout_count += 1
        yield from main.reinit(cpu, adapter)
    yield from _sfp_detection(cpu, adapter, service)
    yield from _sfp_link_config(cpu, adapter, service)
    yield from _watchdog(cpu, adapter, service)


def _sfp_detection(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    """ixgbe_sfp_detection_subtask: is there a module, a new one? Every 2 s, until one is set up.
    With ``fast_probe`` the one that is known is taken to be set up: its link need not restart."""
    if not service.sfp_needs_reset or adapter.fast or adapter.down or adapter.removed:
        return
    if service.sfp_poll_time and cpu.jiffies() < service.sfp_poll_time:
        return
    service.sfp_poll_time = cpu.jiffies() + msecs_to_jiffies(cpu, SFP_POLL_MS) - 1
    before = adapter.hw.sfp_type
    error = yield from phy.identify_sfp_module(cpu, adapter)
    yield from mac82599.mng_enabled(cpu, adapter)
    if not (error or adapter.removed):
        error = yield from mac82599.setup_sfp_modules(cpu, adapter)
    if error == -hw.EOPNOTSUPP:
        for line in _UNSUPPORTED:
            hw.e_err(cpu, adapter, line)
        yield from main.unregister_netdev(cpu, adapter)
        return
    if error == -hw.ENOENT or adapter.removed:
        return
    service.sfp_needs_reset = False
    service.need_link_config = True
    if before is not adapter.hw.sfp_type:
        number = adapter.hw.sfp_type.value + adapter.hw.lan_id
        hw.e_info(cpu, adapter, f"detected SFP+: {number}")


_UNSUPPORTED = (
    "failed to initialize because an unsupported SFP+ module type was detected.",
    "Reload the driver after installing a supported module.",
)


def _sfp_link_config(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    """ixgbe_sfp_link_config_subtask: the MAC is told which speed is wanted."""
    if not service.need_link_config or adapter.down or adapter.removed:
        return
    service.need_link_config = False
    yield from mac82599.setup_mac_link(cpu, adapter)
    service.need_link_update = True
    service.link_check_timeout = cpu.jiffies()


def _watchdog(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    """ixgbe_watchdog_subtask and ixgbe_check_hang_subtask."""
    if adapter.down or adapter.removed:
        return
    if service.need_link_update:
        yield from _update_link(cpu, adapter, service)
    if service.link_up:
        yield from _link_is_up(cpu, adapter, service)
    else:
        yield from _link_is_down(cpu, adapter)
    yield from stats.update_stats(cpu, adapter)
    if not adapter.netdev.carrier and adapter.pending_tx():
        hw.e_info(cpu, adapter, "initiating reset to clear Tx work after link loss")
        service.reset_requested = True
        yield from service_event_schedule(cpu, adapter)  # reset_task, where there is one
    if adapter.netdev.carrier:
        for ring in adapter.rings:
            cpu.ram.words64[ring.state + CHECK_FOR_TX_HANG] = 1
    kick = (1 << len(adapter.rings)) - 1
    adapter.write_reg(regs.eics_ex(0), kick)  # a lost queue interrupt costs 2 s at most
    adapter.write_reg(regs.eics_ex(1), 0)


def _update_link(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    """ixgbe_watchdog_update_link."""
    up, speed = yield from mac82599.check_link(cpu, adapter)
    if adapter.removed:
        return
    service.link_up, service.link_speed = up, speed
    if up:
        yield from common.fc_enable(cpu, adapter)
        for ring in adapter.rings:  # ixgbe_set_rx_drop_en: with flow control nothing is dropped
            control = yield from hw.known(
                cpu, adapter, regs.srrctl(ring.queue), regs.SRRCTL_ONE_BUFFER
            )
            adapter.write_reg(regs.srrctl(ring.queue), control & ~regs.SRRCTL_DROP_EN)
    waited = cpu.jiffies() - service.link_check_timeout
    if service.link_up or waited > msecs_to_jiffies(cpu, TRY_LINK_MS):
        service.need_link_update = False
        adapter.write_reg(regs.EIMS, regs.EICR_LSC)
        yield from hw.flush(cpu, adapter)


_SPEEDS = {10_000: "10 Gbps", 1_000: "1 Gbps", 100: "100 Mbps"}


def _link_is_up(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    """ixgbe_watchdog_link_is_up."""
    if adapter.netdev.carrier:
        return
    yield from hw.known(cpu, adapter, regs.MFLCN, 0)
    yield from hw.known(cpu, adapter, regs.FCCFG, 0)
    speed = _SPEEDS.get(service.link_speed, "unknown speed")
    hw.e_info(cpu, adapter, f"NIC Link is Up {speed}, Flow Control: RX/TX")
    yield from device.carrier_on(cpu, adapter.netdev)


def _link_is_down(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_watchdog_link_is_down."""
    if not adapter.netdev.carrier:
        return
    hw.e_info(cpu, adapter, "NIC Link is Down")
    yield from device.carrier_off(cpu, adapter.netdev)


def tx_timeout_reset(cpu: Cpu, adapter: Adapter, queue: int) -> Context:
    """ixgbe_tx_timeout_reset, on whatever CPU polls the ring; the boot CPU counts resets."""
    if not cpu.boot:
        yield from call_function_single(cpu, 0, [TX_TIMEOUT, adapter.nic, queue])
    elif not adapter.down:
        count = adapter.tx_timeout_count + 1
        text = f"tx hang {count} detected on queue {queue}, resetting adapter"
        hw.e_info(cpu, adapter, text)
        yield from tx_timeout(cpu, adapter)


def tx_timeout(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_tx_timeout, ndo_tx_timeout: the service task is to reset the adapter. Behaviour
    ``tx_timeout_text``: whether that is said."""
    if not adapter.down:
        adapter.service.reset_requested = True
        if cpu.params.tx_timeout_text == "warning":
            hw.e_warn(cpu, adapter, "initiating reset due to tx timeout")
        yield from service_event_schedule(cpu, adapter)


@remote_function(TX_TIMEOUT)
def _remote_tx_timeout(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    adapter = cpu.net.adapters.get(cpu.machine.nics[record[1]].name)
    return tx_timeout_reset(cpu, adapter, record[2]) if adapter is not None else None


def on_removal(cpu: Cpu, nic: int) -> Context:
    """ixgbe_remove_adapter: the service task takes it down, in its next round."""
    adapter = cpu.net.adapters.get(cpu.machine.nics[nic].name)
    if adapter is not None and adapter.probed:
        yield from service_event_schedule(cpu, adapter)
