"""smp_affinity at run time: what a write says, when it takes effect, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, EIO, ENOSPC, EOVERFLOW, ERANGE
from typing import Any

import pytest

from bus.messages import IcrWrite, MemWrite
from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.irq.affinity import (
    write_default_smp_affinity,
    write_smp_affinity,
    write_smp_affinity_list,
)
from nodes.cpu.kernel.irq.cpuhotplug import fixup_irqs, irq_migrate_all_off
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IRQ_WAKE_THREAD, IrqDesc
from nodes.cpu.kernel.irq.migration import irq_move_cleanup_interrupt
from nodes.cpu.kernel.irq.thread import setup_irq_thread, wake_up_irq_thread
from nodes.cpu.kernel.irq.x86_chips import XT_PIC
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.percpu import Context, Cpu, Pause
from nodes.cpu.programs.run import PROGRAMS, Process, program
from orchestrator import ledger
from tests.nodes.cpu.harness import ERAS, MS, BareCpu, Box

WRITERS: dict[str, Callable[[Cpu, int, str], Context]] = {
    "smp_affinity": write_smp_affinity,
    "smp_affinity_list": write_smp_affinity_list,
}


@pytest.fixture(autouse=True)
def _writer() -> Any:
    """A program that writes, as a shell's redirection would; its exit code is the errno."""

    @program("write_affinity_here")
    def main(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
        if argv[1] == "default":
            error = yield from write_default_smp_affinity(cpu, argv[2])
        else:
            error = yield from WRITERS[argv[2]](cpu, int(argv[1]), argv[3])
        return -error

    yield
    del PROGRAMS["write_affinity_here"]


def write(box: Box, irq: int, text: str, name: str = "smp_affinity") -> int:
    """0, or the errno of the write."""
    code = box.run("write_affinity_here", str(irq), name, text + "\n").code
    assert code is not None
    return code


def irq_of(box: Box, name: str) -> int:
    for row in box.kernel()["irqs"]:
        if name in row[-1]:
            return int(row[0])
    raise AssertionError(f"nobody is called {name}")


def queue_irq(box: Box) -> tuple[int, int]:
    """(irq, queue) of eth0's vector that the gateway's replies come on, for the first ping here."""
    before = counts(box)
    box.ping("-c", "1")
    after = counts(box)
    for queue in range(box.cpus):
        irq = irq_of(box, f"eth0-TxRx-{queue}")
        if sum(after[irq]) > sum(before[irq]):
            return irq, queue
    raise AssertionError("no queue of eth0 had an interrupt")


def counts(box: Box) -> list[list[int]]:
    """By irq: interrupts on each CPU."""
    runs = [page.run("irqs") for page in box.pages.values()]
    return [[run[irq] for run in runs] for irq in range(256)]


def on_cpus(box: Box, irq: int, before: list[list[int]]) -> list[int]:
    return [now - then for now, then in zip(counts(box)[irq], before[irq], strict=True)]


def desc_of(box: Box, cpu: int, irq: int) -> IrqDesc:
    desc: IrqDesc = box.machine.simulation.node(f"cpu{cpu}").cpu.irq.desc[irq]
    return desc


def show(box: Box, irq: int, name: str = "smp_affinity") -> int:
    return int(box.proc(f"/proc/irq/{irq}/{name}").replace(",", ""), 16)


# ---------------------------------------------------------------- what a write says


#: As bash printed it on a real 6.1 (tests/data/real-linux/e1000e-smp2/affinity/4-writes-refused).
@pytest.mark.parametrize(
    ("name", "text", "errno"),
    [
        ("smp_affinity", "0", EINVAL), ("smp_affinity", "10", EOVERFLOW),
        ("smp_affinity", "zz", EINVAL), ("smp_affinity", "", EINVAL),
        ("smp_affinity", "7", EOVERFLOW), ("smp_affinity_list", "0-1", 0),
        ("smp_affinity_list", "2-9", ERANGE), ("smp_affinity", "3", 0),
    ],
)  # fmt: skip
def test_writes_are_refused_as_a_real_kernel_refuses_them(name: str, text: str, errno: int) -> None:
    box = Box("6.1")
    assert write(box, irq_of(box, "eth0-TxRx-0"), text, name) == errno


@pytest.mark.conformance("K9.4-1")
@pytest.mark.parametrize(("era", "errno"), [("2.6.18", EINVAL), ("3.10", 0), ("6.1", EINVAL)])
def test_a_mask_without_an_online_cpu(era: str, errno: int) -> None:
    """3.10 takes its default and says success; 2.6.18's x86 has no default to ask for."""
    box = Box(era)
    irq = irq_of(box, "eth0-TxRx-1")
    assert write(box, irq, "2") == 0
    before = show(box, irq)
    assert write(box, irq, "0") == errno
    assert show(box, irq) == before


@pytest.mark.conformance("K9.4-2")
@pytest.mark.parametrize("era", ERAS)
def test_an_irq_whose_chip_cannot_set_an_affinity(era: str) -> None:
    box = Box(era)
    irq = irq_of(box, "eth0-TxRx-0")
    desc_of(box, 0, irq).chip = XT_PIC
    assert write(box, irq, "1") == EIO


def test_the_default_mask_must_hold_an_online_cpu() -> None:
    box = Box("6.1")
    assert box.run("write_affinity_here", "default", "0\n").code == EINVAL
    assert box.run("write_affinity_here", "default", "2\n").code == 0
    assert box.proc("/proc/irq/default_smp_affinity") == "2\n"


# ---------------------------------------------------------------- when it takes effect


@pytest.mark.parametrize("era", ERAS)
def test_the_next_interrupt_comes_to_the_old_cpu_and_the_one_after_to_the_new(era: str) -> None:
    """The file shows the new mask at once, in 2.6.18 only when the line has moved."""
    box = Box(era)
    irq, old = queue_irq(box)
    new = 1 - old
    before = counts(box)
    assert write(box, irq, f"{1 << new:x}") == 0
    if on_cpus(box, irq, before) == [0, 0]:
        assert show(box, irq) == 1 << (old if era == "2.6.18" else new)
    box.ping("-c", "1")
    assert on_cpus(box, irq, before)[old] == 1
    assert desc_of(box, 0, irq).target == new
    before = counts(box)
    box.ping("-c", "3", "-i", "0.01")
    box.live(10)
    moved = on_cpus(box, irq, before)
    assert moved[old] == 0
    assert moved[new] >= 3
    assert show(box, irq) == 1 << new
    if era == "6.1":
        assert show(box, irq, "effective_affinity") == 1 << new


def test_an_idle_line_stays_until_it_has_an_interrupt() -> None:
    box = Box("6.1")
    irq = irq_of(box, "eth1-TxRx-0")
    old = show(box, irq, "effective_affinity")
    assert write(box, irq, f"{3 & ~old:x}") == 0
    box.live(20)
    assert show(box, irq) == 3 & ~old
    assert show(box, irq, "effective_affinity") == old


def test_a_mask_that_holds_the_present_cpu_is_taken_over_without_a_new_vector() -> None:
    box = Box("6.1")
    irq, old = queue_irq(box)
    vector = desc_of(box, old, irq).vector
    write(box, irq, "3")
    box.ping("-c", "2", "-i", "0.01")
    box.live(10)
    assert (show(box, irq), show(box, irq, "effective_affinity")) == (3, 1 << old)
    assert desc_of(box, old, irq).vector == vector


def test_a_second_write_before_the_interrupt_calls_the_first_move_off() -> None:
    box = Box("6.1", cpus=4)
    irq, old = queue_irq(box)
    first, second = ((old + n) % 4 for n in (1, 2))
    write(box, irq, f"{1 << first:x}")
    write(box, irq, f"{1 << second:x}")
    box.live(5)
    cpu = box.machine.simulation.node("cpu0").cpu
    assert cpu.vectors.vector_irq[first].count(irq) == 0
    assert all(desc is None or desc.irq != irq for desc in vector_irq(box, first))
    before = counts(box)
    box.ping("-c", "4", "-i", "0.01")
    box.live(10)
    moved = on_cpus(box, irq, before)
    assert moved[first] == 0
    assert moved[second] >= 2
    assert show(box, irq, "effective_affinity") == 1 << second


def vector_irq(box: Box, cpu: int) -> list[IrqDesc | None]:
    found: list[IrqDesc | None] = box.machine.simulation.node(f"cpu{cpu}").cpu.irq.vector_irq
    return found


def messages(box: Box) -> list[tuple[str, str, Any]]:
    """What passes over the bus from now on."""
    seen: list[tuple[str, str, Any]] = []
    box.machine.simulation.watch = lambda _now, sender, receiver, message: seen.append(
        (sender, receiver, message)
    )
    return seen


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_the_whole_move_can_be_seen_on_the_bus(era: str) -> None:
    """Mask, address, data, unmask by the old CPU; IRQ_MOVE_CLEANUP by the new one, where the
    vector changed."""
    box = Box(era)
    irq, old = queue_irq(box)
    before = desc_of(box, old, irq).vector
    write(box, irq, f"{1 << 1 - old:x}")
    seen = messages(box)
    box.ping("-c", "3", "-i", "0.01")
    table = [
        (sender, message.offset & 15, message.value)
        for sender, receiver, message in seen
        if isinstance(message, MemWrite) and message.bar == 4
    ]
    after = desc_of(box, 1 - old, irq).vector
    address = 0xFEE00004 | 1 << (1 - old) << 12
    assert [(offset, value) for _, offset, value in table] == [
        (12, 1), (0, address), (4, 0), (8, after), (12, 0),
    ]  # fmt: skip
    assert {sender for sender, _, _ in table} == {f"cpu{old}"}
    cleanups = [
        (sender, message.icr >> 56)
        for sender, receiver, message in seen
        if isinstance(message, IcrWrite) and message.icr & 0xFF == 0x20
    ]
    flat = era == "3.10"  # one number on all CPUs of the domain: nothing to clean up
    assert cleanups == ([] if flat else [(f"cpu{1 - old}", old)])
    assert before == after or not flat
    assert (vector_irq(box, old)[before] is None) == (not flat)


@pytest.mark.conformance("K1.11-2")
@pytest.mark.parametrize("overrides", [(), (("msi_destination", "physical"),)])
def test_until_the_cleanup_both_cpus_map_the_line(overrides: tuple[tuple[str, str], ...]) -> None:
    box = Box("3.10" if overrides else "6.1", overrides=overrides)
    irq, old = queue_irq(box)
    new = 1 - old
    write(box, irq, f"{1 << new:x}")
    box.ping("-c", "1")  # moves it; its first interrupt there is yet to come
    mapped = [[d for d in vector_irq(box, n) if d is not None and d.irq == irq] for n in (0, 1)]
    assert [len(found) for found in mapped] == [1, 1]
    box.ping("-c", "1")
    box.live(5)
    mapped = [[d for d in vector_irq(box, n) if d is not None and d.irq == irq] for n in (0, 1)]
    assert [len(mapped[old]), len(mapped[new])] == [0, 1]


@pytest.mark.conformance("K1.11-1")
def test_a_change_that_meets_the_cleanup_of_the_last_waits_in_6_1_and_is_lost_in_3_10() -> None:
    found = {}
    for era, overrides in (("6.1", ()), ("3.10", (("msi_destination", "physical"),))):
        box = Box(era, overrides=overrides)
        irq, old = queue_irq(box)
        write(box, irq, f"{2 >> old:x}")
        box.ping("-c", "1")
        assert desc_of(box, 0, irq).target == 1 - old
        assert write(box, irq, f"{1 << old:x}") == 0  # before its first interrupt over there
        box.ping("-c", "6", "-i", "0.01")
        box.live(10)
        found[era] = desc_of(box, 0, irq).target == old
    assert found == {"6.1": True, "3.10": False}


def test_a_slot_whose_vector_is_still_requested_is_freed_by_a_later_cleanup_ipi() -> None:
    bare = BareCpu("6.1", cpus=2)
    cpu = bare.cpu
    desc = cpu.irq.desc[40] = IrqDesc(40, 0, 0x51, 1)
    cpu.irq.vector_irq[0x51] = desc
    cpu.irq.cleanup_list = [(40, 7)]
    cpu.lapic.irr |= 1 << 0x51
    for _ in irq_move_cleanup_interrupt(cpu):
        pass
    assert cpu.irq.vector_irq[0x51] is desc
    (ipi,) = [m for m in bare.node.outbox["apic"] if isinstance(m, IcrWrite)]
    assert (ipi.icr & 0xFF, ipi.icr >> 56) == (0x20, 0)
    cpu.lapic.irr = 0
    for _ in irq_move_cleanup_interrupt(cpu):
        pass
    assert cpu.irq.vector_irq[0x51] is None
    assert cpu.irq.cleanup_list == []


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_the_threads_of_a_line_follow_it(era: str) -> None:
    box = Box(era)
    irq, old = queue_irq(box)
    ran: list[int] = []
    for number in (0, 1):
        cpu = box.machine.simulation.node(f"cpu{number}").cpu
        (action,) = desc_of(box, number, irq).actions
        first, action.handler = action.handler, lambda irq, dev: IRQ_WAKE_THREAD

        def thread_fn(_irq: int, _dev: object, first: Any = first, number: int = number) -> int:
            ran.append(number)
            first(_irq, _dev)
            return IRQ_HANDLED

        action.thread_fn = thread_fn
        if number == old:
            setup_irq_thread(cpu, desc_of(box, old, irq), action)
            wake_up_irq_thread(cpu, action)
    box.ping("-c", "2", "-i", "0.01")
    assert set(ran) == {old}
    write(box, irq, f"{1 << 1 - old:x}")
    box.ping("-c", "2", "-i", "0.01")
    box.live(20)
    ran.clear()
    assert box.ping("-c", "3", "-i", "0.01").code == 0
    box.live(20)
    assert set(ran) == {1 - old}
    names = [task.comm for task in box.machine.simulation.node(f"cpu{old}").cpu.rq.all.values()]
    assert not [name for name in names if name.startswith("irq/")]


def test_a_move_that_is_asked_for_while_the_handler_runs_is_made_at_its_end() -> None:
    """2.6.18 runs handlers with interrupts on, so the request can come in there; the message is
    rewritten when the chain ends, and the line's state has to follow."""
    box = Box("2.6.18")
    irq, old = queue_irq(box)
    if old != 1:
        write(box, irq, "2")
        box.ping("-c", "3", "-i", "0.01")
    cpu, desc = box.machine.simulation.node("cpu1").cpu, desc_of(box, 1, irq)
    assert desc.target == 1
    (action,) = desc.actions
    first, began, asked = action.handler, [], []

    def slow(irq: int, dev_id: Any) -> Context:
        give_up = cpu.now() + 20 * MS
        began.append(desc.motion)
        while not asked and cpu.now() < give_up:
            yield Pause(cpu.now() + 10_000)
            if desc.motion is not None:
                asked.append(irq)
        return first(irq, dev_id)

    action.handler = slow
    ping = box.start("ping", "-c", "1", "192.168.1.1")
    while not began:
        box.live(0.01)
    assert write(box, irq, "1") == 0
    box.end(ping)
    assert (began[0], asked) == (None, [irq])
    assert (desc.target, desc.motion) == (0, None)
    assert "3 received" in box.ping("-c", "3", "-i", "0.01").out
    assert show(box, irq) == 1


# ---------------------------------------------------------------- nothing is lost


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("era", ERAS)
def test_no_interrupt_is_lost_while_a_line_moves_to_and_fro_under_a_flood(
    era: str, seed: int
) -> None:
    box = Box(era, seed=seed)
    irq, _ = queue_irq(box)
    flood = box.start("ping", "-q", "-f", "-c", "3000", "192.168.1.1")
    moves = 0
    while not flood.done:
        write(box, irq, f"{1 + moves % 2:x}")
        moves += 1
        box.live(1.7)
    ran = box.end(flood)
    assert ran.code == 0
    assert "3000 packets transmitted, 3000 received, 0% packet loss" in ran.out
    assert moves > 10
    both = counts(box)[irq]
    assert min(both) > 100
    book = ledger.settled(box.machine)
    assert book.balanced, book.text()
    assert box.total("msi_no_handler") == 0


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_nine_cpus_with_physical_destinations_pass_a_line_round(era: str) -> None:
    box = Box(era, cpus=9, nics=1)
    irq, _ = queue_irq(box)
    flood = box.start("ping", "-q", "-f", "-c", "1500", "192.168.1.1")
    moves = 0
    while not flood.done:
        write(box, irq, str(moves % 9), "smp_affinity_list")
        moves += 1
        box.live(2)
    ran = box.end(flood)
    assert "0% packet loss" in ran.out
    assert sum(count > 0 for count in counts(box)[irq]) > 4
    book = ledger.settled(box.machine)
    assert book.balanced, book.text()
    assert box.total("msi_no_handler") == 0


def test_the_link_vector_works_on_another_cpu_too() -> None:
    box = Box("6.1")
    irq = irq_of(box, "eth0")
    before = counts(box)[irq][0]  # of the search for the link
    write(box, irq, "2")
    for inserted in (False, True, False):
        box.cable("eth0", inserted=inserted)
        box.live(3000)
    assert counts(box)[irq][0] == before + 1  # the one that moved it
    assert counts(box)[irq][1] > 0
    down = [text for text in box.said() if text.endswith("eth0: NIC Link is Down")]
    assert len(down) == 2


def test_a_nic_that_is_closed_and_opened_again_keeps_the_chosen_cpu() -> None:
    @program("bounce")
    def bounce(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
        adapter = cpu.net.adapters["eth0"]
        yield from device.dev_close(cpu, adapter.netdev, lambda: ixgbe.close(cpu, adapter))
        yield from device.dev_open(cpu, adapter.netdev, lambda: ixgbe.open_(cpu, adapter))
        return 0

    try:
        box = Box("6.1", nics=1, bonded=False)
        irq, old = queue_irq(box)
        write(box, irq, f"{1 << 1 - old:x}")
        box.ping("-c", "2", "-i", "0.01")
        assert box.run("bounce").code == 0
        box.live(3000)
        before = counts(box)
        assert box.ping("-c", "4", "-i", "0.01").code == 0
        box.live(5)
        moved = on_cpus(box, irq, before)
        assert (moved[old], moved[1 - old] > 0) == (0, True)
        space = box.machine.simulation.node("cpu0").cpu.vectors
        mapped = sum(found != -1 for slots in space.vector_irq for found in slots)
        assert mapped == 3  # as many slots as irqs: none was forgotten
    finally:
        del PROGRAMS["bounce"]


# ---------------------------------------------------------------- a CPU that goes offline


def offline(box: Box, dying: int, *, latch: int = 0) -> int:
    """The interrupt half of taking a CPU down; ``latch``: a vector that is in its IRR just then."""
    dead = box.machine.simulation.node(f"cpu{dying}").cpu

    @program("migrate")
    def migrate(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
        error = yield from irq_migrate_all_off(cpu, dying)
        return -error

    @program("fixup")
    def fixup(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
        local_irq_disable(cpu)
        if latch:
            cpu.lapic.accept(latch)
        yield from fixup_irqs(cpu)
        cpu.lapic.irr = 0  # the local APIC is switched off
        cpu.lapic._update()
        local_irq_enable(cpu)
        return 0

    try:
        code = box.run("migrate").code
        assert code is not None
        if code == 0:
            assert box.run("fixup", cpu=dead.name).code == 0
        return code
    finally:
        del PROGRAMS["migrate"], PROGRAMS["fixup"]


@pytest.mark.conformance("K1.11-3")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_an_interrupt_latched_on_a_dying_cpu_comes_once_on_the_new_one(era: str) -> None:
    box = Box(era, nics=1)
    irq = irq_of(box, "eth0-TxRx-1")
    desc = desc_of(box, 1, irq)
    before = counts(box)
    assert offline(box, 1, latch=desc.vector) == 0
    box.live(5)
    assert on_cpus(box, irq, before) == [1, 0]
    assert vector_irq(box, 1).count(None) == 256
    broke = [text for text in box.said() if text.startswith("Broke affinity")]
    assert broke == ([f"Broke affinity for irq {irq}"] if era == "3.10" else [])
    assert show(box, irq) == 1


@pytest.mark.parametrize("era", ERAS)
def test_pings_go_on_when_the_cpu_of_a_queue_has_gone(era: str) -> None:
    box = Box(era)
    flood = box.start("ping", "-q", "-f", "-c", "1500", "192.168.1.1")
    box.live(20)
    write(box, irq_of(box, "eth0-TxRx-0"), "2")  # a move that may be under way
    assert offline(box, 1) == 0
    before = counts(box)
    ran = box.end(flood)
    assert "1500 packets transmitted, 1500 received, 0% packet loss" in ran.out
    assert sum(on_cpus(box, irq, before)[1] for irq in range(256)) == 0
    assert box.total("msi_no_handler") == 0


def test_2_6_18_lets_what_is_latched_in_for_a_millisecond() -> None:
    box = Box("2.6.18", nics=1)
    irq = irq_of(box, "eth0-TxRx-1")
    before = counts(box)
    assert offline(box, 1, latch=desc_of(box, 1, irq).vector) == 0
    box.live(5)
    assert sum(on_cpus(box, irq, before)) == 1
    assert f"Breaking affinity for irq {irq}" in box.said()


def test_a_cpu_may_not_go_if_its_lines_find_no_vector() -> None:
    box = Box("6.1")
    space = box.machine.simulation.node("cpu0").cpu.vectors
    for irq in range(1000, 1000 + space.available[0] - 1):
        space.assign(irq, 1, 3)
    assert offline(box, 1) == ENOSPC
    assert "CPU 1 has 3 vectors, 1 available. Cannot disable CPU" in box.said()
