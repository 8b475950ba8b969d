"""request_irq, free_irq, disable, enable, synchronize: who is refused, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_LEVEL,
    IRQ_NESTED_THREAD,
    IRQ_NOAUTOEN,
    IRQ_NOREQUEST,
    IRQ_PER_CPU_DEVID,
    IRQCHIP_ONESHOT_SAFE,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQF_COND_SUSPEND,
    IRQF_NO_AUTOEN,
    IRQF_NO_SUSPEND,
    IRQF_ONESHOT,
    IRQF_PERCPU,
    IRQF_PROBE_SHARED,
    IRQF_TRIGGER_FALLING,
    IRQF_TRIGGER_HIGH,
    IRQF_TRIGGER_RISING,
    IRQS_PENDING,
    IRQS_SPURIOUS_DISABLED,
    IrqChip,
    IrqDesc,
)
from nodes.cpu.kernel.irq.flow import irq_alloc_desc
from nodes.cpu.kernel.irq.manage import (
    EBUSY,
    EINVAL,
    ENOSYS,
    ENOTCONN,
    IRQ_NOTCONNECTED,
    disable_irq,
    disable_irq_nosync,
    enable_irq,
    free_irq,
    remove_action,
    synchronize_irq,
)
from nodes.cpu.kernel.irq.sim import irq_sim_fire
from nodes.cpu.kernel.irq.x86_chips import IO_APIC, mask, retrigger, unmask
from nodes.cpu.kernel.percpu import Context, Cpu
from tests.nodes.cpu.harness import ERAS, handled
from tests.nodes.cpu.lines import SHARED, LineBench, Recorder

IRQ = 5
eras = pytest.mark.parametrize("era", ERAS)
threaded = pytest.mark.parametrize("era", ["3.10", "6.1"])


def woken(_irq: int, _dev: object) -> int:
    return IRQ_HANDLED


# ---------------------------------------------------------------- refusals


@eras
@pytest.mark.conformance("K1.7-4")
def test_shared_without_a_device_is_refused(era: str) -> None:
    bench = LineBench(era)
    bench.line(IRQ)
    assert bench.request(IRQ, handled, SHARED, dev_id=None) == -EINVAL


@eras
@pytest.mark.conformance("K1.7-4")
def test_a_second_user_who_does_not_share_is_busy_and_the_first_keeps_working(era: str) -> None:
    bench = LineBench(era)
    first, second = Recorder(bench), Recorder(bench)
    bench.line(IRQ)
    assert bench.request(IRQ, first, SHARED, "a", "a") == 0
    assert bench.request(IRQ, second, 0, "b", "b") == -EBUSY
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert (first.runs, second.runs) == (1, 0)


@eras
def test_refusals_that_every_era_has(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)
    assert bench.request(200, handled) == -EINVAL  # no such irq
    assert bench.request(IRQ, None) == -EINVAL
    desc.settings = IRQ_NOREQUEST
    assert bench.request(IRQ, handled) == -EINVAL
    desc.settings = IRQ_PER_CPU_DEVID
    assert bench.request(IRQ, handled) == -EINVAL
    irq_alloc_desc(bench.cpu, 6, 6, 0x41, 0)  # a descriptor without a chip
    assert bench.request(6, handled) == -ENOSYS
    assert not desc.actions


ONLY_LATER = [
    (SHARED | IRQF_NO_AUTOEN, -EINVAL),
    (IRQF_COND_SUSPEND, -EINVAL),
    (SHARED | IRQF_COND_SUSPEND | IRQF_NO_SUSPEND, -EINVAL),
]


@pytest.mark.parametrize(("flags", "error"), ONLY_LATER)
def test_6_1_refuses_flags_that_contradict_each_other(flags: int, error: int) -> None:
    for era, expected in (("3.10", 0), ("6.1", error)):
        bench = LineBench(era)
        bench.line(IRQ)
        assert bench.request(IRQ, handled, flags) == expected, era


def test_6_1_knows_a_pin_that_is_not_connected() -> None:
    bench = LineBench("6.1")
    assert bench.request(IRQ_NOTCONNECTED, handled) == -ENOTCONN


def test_2_6_18_has_no_threads() -> None:
    bench = LineBench("2.6.18")
    bench.line(IRQ)
    assert bench.request(IRQ, handled, thread_fn=woken) == -ENOSYS


def test_a_nested_line_needs_a_thread() -> None:
    bench = LineBench()
    desc = bench.line(IRQ)
    desc.settings |= IRQ_NESTED_THREAD
    assert bench.request(IRQ, handled) == -EINVAL
    assert bench.request(IRQ, handled, thread_fn=woken) == 0
    assert desc.actions[0].thread is None  # the parent's thread runs it


@pytest.mark.parametrize(
    ("era", "text"),
    [
        ("3.10", "for irq 5"),
        ("6.1", "for dev (irq 5)"),
    ],
)
def test_a_thread_without_a_handler_needs_oneshot(era: str, text: str) -> None:
    bench = LineBench(era)
    bench.line(IRQ)
    assert bench.request(IRQ, None, thread_fn=woken) == -EINVAL
    said = f"genirq: Threaded irq requested with handler=NULL and !ONESHOT {text}"
    assert bench.log()[-1] == said
    assert bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=woken) == 0


@threaded
def test_a_chip_that_is_safe_needs_no_oneshot_and_drops_it(era: str) -> None:
    bench = LineBench(era)
    chip = IrqChip(
        "safe",
        irq_mask=mask,
        irq_unmask=unmask,
        irq_retrigger=retrigger,
        flags=IRQCHIP_ONESHOT_SAFE,
    )
    desc = bench.line(IRQ, chip=chip)
    assert bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=woken) == 0
    assert not desc.actions[0].flags & IRQF_ONESHOT
    assert desc.actions[0].thread_mask == 0


# ---------------------------------------------------------------- sharing

RISING, FALLING = IRQF_TRIGGER_RISING, IRQF_TRIGGER_FALLING
SHARING = [
    # flags of the first and the second user, then what each era answers
    (SHARED, SHARED, (0, 0, 0)),
    (SHARED, 0, (-EBUSY, -EBUSY, -EBUSY)),
    (0, SHARED, (-EBUSY, -EBUSY, -EBUSY)),
    (SHARED | RISING, SHARED | RISING, (0, 0, 0)),
    (SHARED | RISING, SHARED | FALLING, (-EBUSY, -EBUSY, -EBUSY)),
    (SHARED | RISING, SHARED, (-EBUSY, -EBUSY, 0)),  # 6.1 takes the line's type
    (SHARED | IRQF_PERCPU, SHARED, (0, -EBUSY, -EBUSY)),
    (SHARED | IRQF_ONESHOT, SHARED, (0, -EBUSY, -EBUSY)),
]


@pytest.mark.parametrize(("old", "new", "answers"), SHARING)
def test_who_may_share(old: int, new: int, answers: tuple[int, int, int]) -> None:
    for era, expected in zip(ERAS, answers, strict=True):
        bench = LineBench(era)
        bench.line(IRQ)
        assert bench.request(IRQ, handled, old, "a", "a") == 0
        assert bench.request(IRQ, handled, new, "b", "b") == expected, era


MISMATCH = [
    ("2.6.18", "IRQ handler type mismatch for IRQ 5"),
    ("3.10", "genirq: Flags mismatch irq 5. 00000000 (b) vs. 00000080 (a)"),
    ("6.1", "genirq: Flags mismatch irq 5. 00000000 (b) vs. 00000080 (a)"),
]


@pytest.mark.parametrize(("era", "text"), MISMATCH)
def test_a_mismatch_is_logged_unless_the_driver_only_probes(era: str, text: str) -> None:
    bench = LineBench(era)
    bench.line(IRQ)
    bench.request(IRQ, handled, SHARED, "a", "a")
    before = len(bench.log())
    assert bench.request(IRQ, handled, IRQF_PROBE_SHARED, "b", "b") == -EBUSY
    assert len(bench.log()) == before
    bench.request(IRQ, handled, 0, "b", "b")
    assert bench.log()[before] == text
    assert ("Call Trace:" in bench.log()[before:]) == (era == "2.6.18")


@threaded
def test_each_oneshot_user_gets_the_lowest_free_bit_until_there_is_none(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)
    flags = SHARED | IRQF_ONESHOT
    for dev in range(64):
        assert bench.request(IRQ, handled, flags, "dev", dev) == 0
    assert [action.thread_mask for action in desc.actions] == [1 << n for n in range(64)]
    assert bench.request(IRQ, handled, flags, "dev", 64) == -EBUSY
    remove_action(bench.cpu, desc, 3)
    assert bench.request(IRQ, handled, flags, "dev", 64) == 0
    assert desc.actions[-1].thread_mask == 1 << 3


# ---------------------------------------------------------------- the first user


def test_a_chip_that_refuses_the_trigger_ends_the_request() -> None:
    bench, asked = LineBench(), []

    def set_type(_cpu: Cpu, _desc: IrqDesc, trigger: int) -> int:
        asked.append(trigger)
        return -EINVAL if trigger == RISING else 0

    chip = IrqChip("picky", irq_set_type=set_type, irq_mask=mask, irq_unmask=unmask)
    desc = bench.line(IRQ, chip=chip)
    assert bench.request(IRQ, handled, RISING) == -EINVAL
    assert not desc.actions
    assert desc.state & IRQD_IRQ_DISABLED
    assert bench.request(IRQ, handled, IRQF_TRIGGER_HIGH) == 0
    assert asked == [RISING, IRQF_TRIGGER_HIGH]
    assert desc.settings & IRQ_LEVEL


@eras
def test_a_line_that_is_not_to_start_by_itself_starts_with_enable_irq(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    desc = bench.line(IRQ)
    desc.settings |= IRQ_NOAUTOEN
    assert bench.request(IRQ, handler) == 0
    assert desc.depth == 1
    assert bench.wire(IRQ).masked
    enable_irq(bench.cpu, IRQ)
    assert desc.depth == 0
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == 1


def test_an_activation_that_fails_is_the_requests_error() -> None:
    bench = LineBench()
    chip = IrqChip("full", irq_mask=mask, irq_unmask=unmask, irq_activate=lambda _c, _d: -28)
    desc = bench.line(IRQ, chip=chip)
    assert bench.request(IRQ, handled) == -28
    assert not desc.actions


# ---------------------------------------------------------------- free


@eras
@pytest.mark.conformance("K1.7-1")
def test_freeing_with_an_unknown_device_changes_nothing_and_complains(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    desc = bench.line(IRQ)
    bench.request(IRQ, handler, 0, "a", "a")
    before = bench["warnings"]
    assert bench.run(free_irq(bench.cpu, IRQ, "b")) is None
    assert "Trying to free already-free IRQ 5" in bench.log()
    assert bench["warnings"] == before + (era != "2.6.18")  # there it is a plain line
    assert [action.name for action in desc.actions] == ["a"]
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == 1


@eras
@pytest.mark.conformance("K1.7-2")
def test_duplicates_are_taken_and_the_first_is_freed(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)
    for name in ("first", "second"):
        assert bench.request(IRQ, handled, SHARED, name, "same") == 0
    assert bench.run(free_irq(bench.cpu, IRQ, "same")) == "first"
    assert [action.name for action in desc.actions] == ["second"]


@eras
@pytest.mark.conformance("K1.7-3")
def test_the_last_one_freed_disables_and_the_next_request_starts_up(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    desc = bench.line(IRQ)
    bench.request(IRQ, handled)
    bench.run(free_irq(bench.cpu, IRQ, "dev"))
    assert desc.state & IRQD_IRQ_DISABLED
    assert desc.depth == (0 if era == "2.6.18" else 1)
    assert bench.wire(IRQ).masked or era == "2.6.18"  # whose edge chip cannot disable
    for _ in range(3):
        disable_irq_nosync(bench.cpu, IRQ)
    bench.request(IRQ, handler)
    assert not desc.state & IRQD_IRQ_DISABLED
    assert desc.depth == 0
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == 1


@eras
def test_what_came_before_the_first_user_is_sent_again_but_not_in_2_6_18(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    bench.line(IRQ).istate |= IRQS_PENDING
    bench.request(IRQ, handler)
    bench.settle()
    assert handler.runs == (0 if era == "2.6.18" else 1)


@eras
def test_free_waits_for_the_handler_that_runs(era: str) -> None:
    bench, order = LineBench(era), []
    desc = bench.line(IRQ)
    bench.request(IRQ, handled, SHARED, "a", "a")
    desc.state |= IRQD_IRQ_INPROGRESS  # as if it ran elsewhere

    def freeing() -> Context:
        yield from free_irq(bench.cpu, IRQ, "a")
        order.append("freed")

    bench.task(freeing())
    bench.run_for(1_000_000)
    assert not order
    desc.state &= ~IRQD_IRQ_INPROGRESS
    bench.run_for(1_000_000)
    assert order == ["freed"]


@eras
def test_free_from_an_interrupt_is_warned_about(era: str) -> None:
    bench = LineBench(era)
    bench.line(IRQ)
    bench.line(6)
    bench.request(6, handled)

    def handler(_irq: int, _dev: object) -> Context:
        yield from free_irq(bench.cpu, 6, "dev")
        return IRQ_HANDLED

    bench.request(IRQ, handler)
    before = bench["warnings"]
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert bench["warnings"] == before + 1


def test_debug_shirq_calls_a_freed_shared_handler_once_more() -> None:
    for setting, runs in (("off", 0), ("on", 1)):
        bench = LineBench("6.1", overrides={"debug_shirq": setting})
        handler = Recorder(bench)
        bench.line(IRQ)
        bench.request(IRQ, handler, SHARED)
        bench.run(free_irq(bench.cpu, IRQ, "dev"))
        assert handler.runs == runs


# ---------------------------------------------------------------- disable and enable


@eras
@pytest.mark.conformance("K1.10-1")
def test_disabled_thrice_and_enabled_twice_is_disabled(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    desc = bench.line(IRQ)
    bench.request(IRQ, handler)
    for _ in range(3):
        bench.run(disable_irq(bench.cpu, IRQ))
    for _ in range(2):
        enable_irq(bench.cpu, IRQ)
    for _ in range(2):
        irq_sim_fire(bench.cpu, IRQ)
        bench.settle()
    assert handler.runs == 0
    assert desc.istate & IRQS_PENDING
    assert desc.depth == 1
    enable_irq(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == 1


@eras
def test_one_enable_too_many_is_warned_about_and_changes_nothing(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)
    bench.request(IRQ, handled)
    before = bench["warnings"]
    enable_irq(bench.cpu, IRQ)
    assert bench["warnings"] == before + 1
    assert "Unbalanced enable for IRQ 5" in bench.log()
    assert desc.depth == 0
    assert not desc.state & IRQD_IRQ_DISABLED


@eras
def test_an_interrupt_that_does_not_exist_is_disabled_and_enabled_in_silence(era: str) -> None:
    bench = LineBench(era)
    before = bench["warnings"]
    bench.run(disable_irq(bench.cpu, 99))
    disable_irq_nosync(bench.cpu, 99)
    enable_irq(bench.cpu, 99)
    assert bench["warnings"] == before


@eras
@pytest.mark.conformance("K1.10-2")
def test_disable_irq_from_its_own_handler_waits_for_itself(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)
    after = []

    def handler(irq: int, _dev: object) -> Context:
        yield from disable_irq(bench.cpu, irq)
        after.append(irq)
        return IRQ_HANDLED

    bench.request(IRQ, handler)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_for(50_000_000)
    assert desc.state & IRQD_IRQ_INPROGRESS
    assert len(bench.cpu.stack) >= 1
    assert not after


@eras
@pytest.mark.conformance("K1.10-2")
def test_disable_irq_nosync_from_its_own_handler_does_not(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)

    def handler(irq: int, _dev: object) -> int:
        disable_irq_nosync(bench.cpu, irq)
        return IRQ_HANDLED

    bench.request(IRQ, handler)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert desc.state & IRQD_IRQ_DISABLED
    assert not bench.cpu.stack


@eras
@pytest.mark.conformance("K1.10-3")
def test_disable_irq_leaves_other_lines_and_the_interrupt_flag_alone(era: str) -> None:
    bench, seen = LineBench(era), []
    other = Recorder(bench)
    for irq in (IRQ, 6):
        bench.line(irq)
        bench.request(irq, other if irq == 6 else handled)

    def task() -> Context:
        yield from disable_irq(bench.cpu, IRQ)
        seen.append(bench.cpu.irqs_on)

    bench.task(task())
    bench.settle()
    irq_sim_fire(bench.cpu, 6)
    bench.settle()
    assert seen == [True]
    assert other.runs == 1


@threaded
def test_synchronize_irq_sleeps_until_the_thread_is_done(era: str) -> None:
    bench, order = LineBench(era), []
    bench.line(IRQ)

    def thread_fn(_irq: int, _dev: object) -> Context:
        for _ in range(500):
            yield
        order.append("thread")
        return IRQ_HANDLED

    bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=thread_fn)
    bench.settle()
    irq_sim_fire(bench.cpu, IRQ)

    def waiter() -> Context:
        while not bench.cpu.irq.desc[IRQ].threads_active:
            yield
        yield from synchronize_irq(bench.cpu, IRQ)
        order.append("synchronized")

    bench.task(waiter())
    bench.settle()
    assert order == ["thread", "synchronized"]


@threaded
@pytest.mark.conformance("K1.7-5")
def test_a_new_shared_handler_revives_a_line_that_was_given_up(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)
    bench.request(IRQ, handled, SHARED, "a", "a")
    desc.istate |= IRQS_SPURIOUS_DISABLED
    disable_irq_nosync(bench.cpu, IRQ)
    newcomer = Recorder(bench)
    assert bench.request(IRQ, newcomer, SHARED, "b", "b") == 0
    assert not desc.istate & IRQS_SPURIOUS_DISABLED
    assert not desc.state & IRQD_IRQ_DISABLED
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert newcomer.runs == 1


def test_io_apic_line_of_another_cpu_is_not_touched_here() -> None:
    bench: Any = LineBench(cpus=2, boot=False)
    desc = irq_alloc_desc(bench.cpu, 30, 0, 0x41, 1)
    desc.chip = IO_APIC
    assert bench.request(30, handled) == 0
    assert bench.cpu.irq.vector_irq[0x41] is None
    assert [action.name for action in desc.actions] == ["dev"]
    with pytest.raises(AssertionError, match="routed to CPU 1"):
        disable_irq_nosync(bench.cpu, 30)
