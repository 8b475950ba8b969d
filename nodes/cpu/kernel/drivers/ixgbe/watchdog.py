"""The other-cause interrupt, the service timer and the service task (ixgbe_main.c).

The timer runs every 2 s, every 100 ms while the link is being looked for, and only schedules the
work; the work reads LINKS when it was told to, updates statistics, kicks the queue vectors, resets
what must be reset, and takes a removed adapter down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.drivers.ixgbe import hw, main, regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.jiffies import msecs_to_jiffies
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.timer import timer_setup
from nodes.cpu.kernel.workqueue import INIT_WORK, cancel_work, schedule_work

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

CHECK_LSC = 39  # record: the interrupt for other causes came on another CPU
SERVICE_MS, LINK_SEARCH_MS = 2000, 100
TRY_LINK_MS = 4000

#: What one pass over the statistics reads here (the full list comes with the hardware issue).
_STATISTICS = (
    ("crcerrs", regs.CRCERRS), ("mpc", regs.mpc(0)), ("qprdc", regs.qprdc(0)),
    ("gprc", regs.GPRC), ("gorc", regs.GORCL), ("gorc_high", regs.GORCH),
    ("gotc", regs.GOTCL), ("gotc_high", regs.GOTCH), ("bprc", regs.BPRC), ("mprc", regs.MPRC),
    ("rlec", regs.RLEC), ("gptc", regs.GPTC), ("tpr", regs.TPR),
)  # fmt: skip


class Service:
    """Service state of one adapter on the boot CPU."""

    def __init__(self, cpu: Cpu, adapter: Adapter) -> None:
        self.need_link_update = False
        self.link_check_timeout = 0
        self.reset_requested = False
        self.link_up = False
        self.lsc_int = 0
        self.statistics: dict[str, int] = {name: 0 for name, _ in _STATISTICS}
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
    service = _service(adapter)
    service.need_link_update = True
    service.link_check_timeout = cpu.jiffies()
    cpu.timers.mod_timer(service.timer, cpu.jiffies())


def stop_timer(cpu: Cpu, adapter: Adapter) -> None:
    cpu.timers.del_timer(_service(adapter).timer)


def stop_service(cpu: Cpu, adapter: Adapter) -> Context:
    service = _service(adapter)
    cpu.timers.del_timer(service.timer)
    yield from cancel_work(cpu, service.work)


def _service(adapter: Adapter) -> Service:
    assert isinstance(adapter.service, Service)
    return adapter.service


def service_event_schedule(cpu: Cpu, adapter: Adapter) -> Context:
    return schedule_work(cpu, _service(adapter).work)


def msix_other(cpu: Cpu, adapter: Adapter) -> Callable[[int, object], Context]:
    """Handler of the last vector: reads EICS (not EICR), clears what it saw."""

    def ixgbe_msix_other(_irq: int, _dev: object) -> Context:
        eicr = yield from hw.read_reg(cpu, adapter, regs.EICS)
        eicr &= 0xFFFF_0000
        adapter.write_reg(regs.EICR, eicr)
        if eicr & regs.EICR_LSC and not adapter.removed:
            if not adapter.down:
                adapter.write_reg(regs.EIMC, regs.EICR_LSC)
            if cpu.boot:
                yield from check_lsc(cpu, adapter)
            else:
                yield from call_function_single(cpu, 0, [CHECK_LSC, adapter.nic])
        if not adapter.down:
            adapter.write_reg(regs.EIMS, regs.EIMS_OTHER & ~regs.EICR_LSC)
        return IRQ_HANDLED

    return ixgbe_msix_other


def check_lsc(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_check_lsc on the CPU that has the service's state: the link is to be looked at."""
    service = _service(adapter)
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
    service = _service(adapter)
    wait_ms = LINK_SEARCH_MS if service.need_link_update else SERVICE_MS
    cpu.timers.mod_timer(service.timer, cpu.jiffies() + msecs_to_jiffies(cpu, wait_ms))
    yield from service_event_schedule(cpu, adapter)


def _service_task(cpu: Cpu, adapter: Adapter) -> Context:
    service = _service(adapter)
    if cpu.net.adapters.get(adapter.name) is not adapter:
        return
    if not adapter.removed and not adapter.down:
        if service.reset_requested:
            service.reset_requested = False
            printk(cpu, f"{hw.netdev_prefix(cpu, adapter)}: Reset adapter")
            yield from main.reinit(cpu, adapter)
        yield from _watchdog(cpu, adapter, service)
    if adapter.removed and not adapter.down:
        yield from main.down(cpu, adapter)


def _watchdog(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    if adapter.down or adapter.removed:
        return
    if service.need_link_update:
        yield from _update_link(cpu, adapter, service)
    if service.link_up:
        yield from _link_is_up(cpu, adapter)
    else:
        yield from _link_is_down(cpu, adapter)
    yield from update_statistics(cpu, adapter)
    if not adapter.netdev.carrier and adapter.pending_tx():
        text = "initiating reset to clear Tx work after link loss"
        printk(cpu, f"{hw.netdev_prefix(cpu, adapter)}: {text}")
        service.reset_requested = True
        yield from service_event_schedule(cpu, adapter)
    kick = (1 << len(adapter.rings)) - 1
    adapter.write_reg(regs.eics_ex(0), kick)  # a lost queue interrupt costs 2 s at most


def _update_link(cpu: Cpu, adapter: Adapter, service: Service) -> Context:
    yield from hw.read_reg(cpu, adapter, regs.LINKS)  # the first is history
    links = yield from hw.read_reg(cpu, adapter, regs.LINKS)
    if adapter.removed:
        return
    service.link_up = bool(links & regs.LINKS_UP)
    waited = cpu.jiffies() - service.link_check_timeout
    if service.link_up or waited > msecs_to_jiffies(cpu, TRY_LINK_MS):
        service.need_link_update = False
        adapter.write_reg(regs.EIMS, regs.EICR_LSC)


def _link_is_up(cpu: Cpu, adapter: Adapter) -> Context:
    if adapter.netdev.carrier:
        return
    text = "NIC Link is Up 10 Gbps, Flow Control: RX/TX"
    printk(cpu, f"{hw.netdev_prefix(cpu, adapter)}: {text}")
    yield from device.carrier_on(cpu, adapter.netdev)


def _link_is_down(cpu: Cpu, adapter: Adapter) -> Context:
    if not adapter.netdev.carrier:
        return
    printk(cpu, f"{hw.netdev_prefix(cpu, adapter)}: NIC Link is Down")
    yield from device.carrier_off(cpu, adapter.netdev)


def update_statistics(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_update_stats: add what the clear-on-read counters hold."""
    service = _service(adapter)
    for name, register in _STATISTICS:
        value = yield from hw.read_reg(cpu, adapter, register)
        if adapter.removed:
            return
        service.statistics[name] += value


def on_removal(cpu: Cpu, nic: int) -> Context:
    """ixgbe_remove_adapter: the service task takes it down."""
    adapter = cpu.net.adapters.get(cpu.machine.nics[nic].name)
    if adapter is not None and isinstance(adapter.service, Service):
        yield from service_event_schedule(cpu, adapter)
