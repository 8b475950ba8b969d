"""One CPU: its contexts over the last second, what stands on what, and who waits."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from orchestrator.dashboards import cpufacts, poolfacts
from orchestrator.dashboards.common import PLAIN, Size, footer, header
from orchestrator.dashboards.cpusentences import CPU
from orchestrator.dashboards.draw import (
    STYLES,
    Box,
    Frame,
    Line,
    Shelf,
    compose,
    count,
    duration,
    rate,
    spark,
    static,
    two,
)
from orchestrator.dashboards.model import FAST_PERIOD_NS, MachineView, NodeView
from orchestrator.dashboards.sentences import sentence

KEYS = "Left Right others  w pools  space hold view  k kill f freeze r restart  q quit"
_COLUMNS = 56
_CONTEXTS = (("H", "hardirq"), ("S", "softirq"), ("T", "tasks"))
#: Softirqs that are shown even when there is little room.
_FIRST_SOFTIRQS = ("TIMER", "NET_TX", "NET_RX")
#: Those that share the line after them as long as no other is busier.
_NEXT = ("SCHED", "RCU")


def render(view: MachineView, node: NodeView, size: Size = PLAIN) -> Frame:
    """The dashboard of one CPU in exactly the given size."""
    shelves = [
        Shelf((_second(node),)),
        Shelf((_stack(view, node), _interruptible(node))),
        Shelf((_irqs(view, node), _softirqs(view, node))),
        Shelf((_run_queue(view, node), _workers(view, node))),
        Shelf((Box("just now", lambda c, n: _just_now(view, node, c, n), 1, 1, grows=True),)),
    ]
    line = sentence(CPU, view, node)
    return compose(
        header(view, node, size), line, shelves, footer(KEYS, size)[:1], size.width, size.height
    )


def _second(node: NodeView) -> Box:
    """Share of each context, now and in the last second."""
    columns = cpufacts.column_shares(node, _COLUMNS, _COLUMNS * FAST_PERIOD_NS)
    shares = cpufacts.shares(node)

    def draw(width: int, height: int) -> Sequence[Line]:
        lines = []
        for row, (letter, name) in enumerate(_CONTEXTS):
            line = Text(f" {letter} {name:<8} ", style=STYLES[letter])
            line.append(spark([column[row] for column in columns], 1.0))
            lines.append(two(line, f"{100 * shares[row]:5.1f} % ", width))
        return lines

    return Box("last second, a column is 1/60 s", draw, 3, note="share")


def _stack(view: MachineView, node: NodeView) -> Box:
    """Which context stands on which: the top one runs, the others are interrupted by it."""
    hard, soft = node.get("hardirq_now"), node.get("softirq_now")
    poll = cpufacts.napi(view, node)
    polling = f"  {poll.device}:{poll.queue} {poll.polled}/{poll.weight}" if poll else ""
    ksoftirqd = soft and cpufacts.in_ksoftirqd(node)
    interrupted = "  runs it" if ksoftirqd else "  interrupted" if hard or soft else ""
    task = node.get("current_pid")
    waits = "waits for an interrupt" if node.get("online") else "halted"
    rows = (
        ("H", "hardirq", cpufacts.irq_words(view, node, hard - 1) if hard else "-"),
        ("S", "softirq", cpufacts.softirq_name(view, soft - 1) + polling if soft else "-"),
        ("T", "task", cpufacts.task(node) + interrupted if task else "-"),
        (".", "idle", "-" if task else "interrupted" if hard or soft else waits),
    )
    now = cpufacts.context(node)
    lines = []
    for letter, name, what in rows:
        here = letter == now
        text = Text().append(" > " if here else "   ", "bold").append(f"{name:<9}", STYLES[letter])
        lines.append(text.append(what, "bold" if here else ""))
    return Box("now: what stands on what", static(lines), 4)


def _interruptible(node: NodeView) -> Box:
    """IF and preempt_count, and what they allow."""
    count_ = node.get("preempt_count")
    parts = [
        f"{name} {(count_ & mask) >> shift}"
        for name, mask, shift in (
            ("NMI", cpufacts.NMI, 20),
            ("HARDIRQ", cpufacts.HARDIRQ, 16),
            ("SOFTIRQ", cpufacts.SOFTIRQ, 8),
            ("PREEMPT", cpufacts.PREEMPT, 0),
        )
    ]
    in_irq = "yes" if count_ & (cpufacts.HARDIRQ | cpufacts.NMI) else "no"
    in_softirq = "yes" if count_ & cpufacts.SOFTIRQ else "no"
    lines = [
        f" IF {node.get('irq_enabled')}: {cpufacts.what_may_interrupt(node)}",
        f" preempt_count {count_:#010x} =",
        f"  {' '.join(parts)}",
        f" in_irq() {in_irq}  in_softirq() {in_softirq}",
    ]
    return Box("what may interrupt it?", static(lines), 4)


def _irqs(view: MachineView, node: NodeView) -> Box:
    """Interrupts of this CPU, the busiest first, and how long an MSI waits for its handler."""
    params = cpufacts.params(view.settings)
    vectors = view.irq_vectors(node)
    irqs = cpufacts.busiest_irqs(node)
    fixed = (
        ("LOC", "timer", params.local_timer_vector),
        ("RES", "reschedule", params.reschedule_vector),
    )

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines: list[Line] = []
        for irq in irqs[: height - 3]:
            vector = vectors.get(irq)
            name = cpufacts.irq_name(view, node, vector)
            lines.append(_irq_row(str(irq), name, vector, node, "irqs", irq))
        lines.extend([""] * (height - 3 - len(lines)))
        for row, name, vector in fixed:
            at = cpufacts.arch_irq(row)
            lines.append(_irq_row(row, name, vector, node, "arch_irqs", at))
        p50, p99 = cpufacts.latency_ns(node, 50), cpufacts.latency_ns(node, 99)
        if p50 is None or p99 is None:
            lines.append(" MSI to handler  none came yet")
        else:
            lines.append(f" MSI to handler  p50 <{p50 / 1e3:.0f}  p99 <{p99 / 1e3:.0f} us")
        return lines

    title = "irq  name        vector   /s   total"
    return Box(title, draw, 5, at_least=5, grows=len(irqs) > 2)


def _irq_row(
    row: str, name: str, vector: int | None, node: NodeView, field: str, which: int
) -> str:
    shown = f"{vector:#04x}" if vector is not None else ""
    per_second, total = rate(node.rate(field, which)), count(node.get(field, which))
    return f" {row:>3} {name:<13} {shown:>4} {per_second:>5} {total:>7}"


def _softirqs(view: MachineView, node: NodeView) -> Box:
    """Softirqs: pending bits and rates; who is behind."""
    params = cpufacts.params(view.settings)
    names = list(params.softirq_names)
    pending = cpufacts.pending(view, node)

    def row(shown: list[str]) -> str:
        star = "*" if any(name in pending for name in shown) else ""
        per_second = sum(node.rate("softirqs", names.index(name)) for name in shown)
        return f"  {' '.join(shown):<22} {star:^3} {rate(per_second):>7}"

    def draw(columns: int, height: int) -> Sequence[Line]:
        rest = [name for name in names if name not in _FIRST_SOFTIRQS]
        if height > len(names):
            groups = [[name] for name in names]
        else:
            busy = sorted(
                rest, key=lambda n: (-node.delta("softirqs", names.index(n)), n not in _NEXT)
            )
            groups = [[name] for name in _FIRST_SOFTIRQS] + [busy[:2]]
        woken = node.get("ksoftirqd_wakeups")
        running = [w for w in cpufacts.run_queue(node) if w.comm.startswith("ksoftirqd/")]
        state = "runs" if cpufacts.in_ksoftirqd(node) else "waits" if running else "asleep"
        last = f" ksoftirqd/{node.number} nice {params.ksoftirqd_nice} {state}, woken {woken}"
        return [*(row(group) for group in groups[: height - 1]), last]

    return Box("softirq       pending    /s", draw, 5, at_least=5)


def _run_queue(view: MachineView, node: NodeView) -> Box:
    """Runnable tasks, by the names that top shows, with their share of the last second."""
    rows = cpufacts.run_queue(node)
    kworkers = {worker.pid: poolfacts.task_name(view, worker) for worker in poolfacts.busy(node)}

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines: list[Line] = []
        for task in rows[:height]:
            mark = ">" if task.current else " "
            name = f"{kworkers.get(task.pid, task.comm)}/{task.pid}"
            left = Text(f" {mark} {name:<15} nice {task.nice:<3} R", "bold" if task.current else "")
            lines.append(two(left, f"{100 * task.share:4.0f} % ", columns))
        if not rows:
            who = "the idle task has it" if node.get("online") else "the CPU is offline"
            lines.append(f"   nobody can run: {who}")
        elif len(rows) > height:
            lines[-1] = f"   and {len(rows) - height + 1} more"
        return lines

    return Box(f"run queue {node.number}", draw, 2)


def _workers(view: MachineView, node: NodeView) -> Box:
    """The pools of this CPU in two lines; ``w`` opens their own screen."""
    pools = poolfacts.pools(node)
    running, idle, queued = (
        sum(getattr(pool, name) for pool in pools) for name in ("running", "idle", "worklist")
    )
    busy = poolfacts.busy(node)
    last = node.text("wq_last_work")
    if busy:
        age = duration(view.age_ns(busy[0].since_ns))
        second = f" {busy[0].state} {busy[0].comm} {busy[0].work} {age}"
    elif last:
        second = f" last: {last}, {duration(view.age_ns(node.get('wq_last_ns')))} ago"
    else:
        second = " no work has run yet"
    lines = [f" nr_running {running}  idle {idle}  queued {queued}", second]
    delayed = f"{node.get('wq_delayed')} delayed"
    return Box(f"workers of cpu{node.number}", static(lines), 2, note=delayed)


def _just_now(view: MachineView, node: NodeView, columns: int, height: int) -> Sequence[Line]:
    """The flight recorder's last records, the latest last."""
    events = cpufacts.just_now(view, node, 3 * height)
    if not events:
        return [" the flight recorder holds nothing yet"]
    per_line = max(columns // 26, 1) if height == 1 else 1
    events = events[-height * per_line :]
    if per_line == 1:
        return [f" {event}" for event in events]
    while len(" " + "   ".join(events)) > columns and len(events) > 1:
        events = events[1:]
    return [" " + "   ".join(events)]
