"""What the page of one CPU says: contexts, interrupts, softirqs, tasks.

Names that are no counters (a softirq's, a vector's) come from the era's table; the vector of an
interrupt from the flight recorder, which notes each entry of a handler.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from nodes.cpu.kernel.params import PRESETS, Params, with_overrides
from nodes.cpu.page import ARCH_IRQS, CONTEXTS, LATENCY_BUCKETS, RUN_QUEUE_ROWS
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import MachineSettings
from orchestrator.dashboards.model import SECOND_NS, MachineView, NodeView

#: Letter of each of CONTEXTS.
LETTERS = dict(zip(CONTEXTS, ".TSHNW-", strict=True))
#: An idle column needs at least this share of its time to be shown as idle.
IDLE_SHARE = 0.5
PREEMPT, SOFTIRQ, HARDIRQ, NMI = 0xFF, 0xFF00, 0xF0000, 0xF00000
#: An interrupt taken this long ago is the one whose exit runs the softirq.
IRQ_EXIT_NS = 10_000_000
_IRQ_ENTRY = TRACEPOINTS["irq_handler_entry"].number
_MMIO_READ = TRACEPOINTS["mmio_read"].number
_EVENT_NAMES = {point.number: point.name for point in TRACEPOINTS.values()}


class Poll(NamedTuple):
    """A NAPI poll in progress."""

    device: str
    queue: int
    polled: int
    weight: int


class Waiting(NamedTuple):
    """One row of the run queue."""

    pid: int
    nice: int
    comm: str
    share: float  # of the last second
    current: bool


@cache
def params(settings: MachineSettings) -> Params:
    """Behaviours of the machine's kernel."""
    return with_overrides(PRESETS[settings.era], settings.overrides)


# ---------------------------------------------------------------- now


def context(node: NodeView) -> str:
    """Letter of what it is doing."""
    if not node.alive:
        return "X"
    if not node.get("online"):
        return "-"
    return LETTERS[CONTEXTS[min(node.get("context"), len(CONTEXTS) - 1)]]


def task(node: NodeView) -> str:
    """``ping/312``, or ``idle``."""
    pid = node.get("current_pid")
    return f"{node.text('current_comm')}/{pid}" if pid else "idle"


def softirq_name(view: MachineView, vector: int) -> str:
    names = params(view.settings).softirq_names
    return names[vector] if vector < len(names) else f"softirq {vector}"


def pending(view: MachineView, node: NodeView) -> list[str]:
    """Softirqs whose bit is set."""
    bits = node.get("softirq_pending")
    return [name for n, name in enumerate(params(view.settings).softirq_names) if bits >> n & 1]


def napi(view: MachineView, node: NodeView) -> Poll | None:
    """The poll in progress; interface 1 is lo, the NICs follow in the order of their slots."""
    word = node.get("napi_now")
    if not word:
        return None
    return Poll(device(view, word & 0xFFFF), word >> 16 & 0xFFFF, word >> 32 & 0xFFFF, word >> 48)


def device(view: MachineView, ifindex: int) -> str:
    """Name of an interface by the index it got at boot."""
    names = ("lo", *view.settings.nic_names)
    if 1 <= ifindex <= len(names):
        return names[ifindex - 1]
    return f"interface {ifindex}"


def in_ksoftirqd(node: NodeView) -> bool:
    return node.text("current_comm").startswith("ksoftirqd/")


def softirq_where(view: MachineView, node: NodeView) -> str:
    """Who runs the softirq: ksoftirqd, local_bh_enable of a task, or the exit of an interrupt."""
    if in_ksoftirqd(node):
        return f"in {task(node)}"
    if node.get("preempt_count") & PREEMPT:
        return f"where {task(node)} enabled bottom halves"
    irq = last_irq(view, node)
    return f"on the way out of interrupt {irq}" if irq else "on the way out of an interrupt"


def last_irq(view: MachineView, node: NodeView) -> int | None:
    """The interrupt handled most recently, if that was a moment ago."""
    for record in reversed(view.trace(node.name, 16)):
        if record.event == _IRQ_ENTRY:
            return record.a if view.age_ns(record.time_ns) < IRQ_EXIT_NS else None
    return None


def stalled_read(view: MachineView, node: NodeView) -> int:
    """Clock at the register read that it waits for, if reads are traced; else 0."""
    for record in reversed(view.trace(node.name, 4)):
        if record.event == _MMIO_READ and record.a == node.get("stalled_on") - 1:
            return record.time_ns
    return 0


def interrupted(view: MachineView, node: NodeView) -> str:
    """What lies under a hard interrupt."""
    vector = node.get("softirq_now")
    if vector:
        return f", over softirq {softirq_name(view, vector - 1)}"
    return f", over {task(node)}" if node.get("current_pid") else ", out of idle"


def what_may_interrupt(node: NodeView) -> str:
    """IF and preempt_count in words."""
    count = node.get("preempt_count")
    if not node.get("online"):
        return "nothing but INIT and STARTUP"
    if not node.get("irq_enabled"):
        return "nothing but an NMI"
    if count & (SOFTIRQ | HARDIRQ | NMI):
        return "hard interrupts, no softirq"
    if count & PREEMPT:
        return "hard interrupts, softirqs"
    return "interrupts, softirqs, tasks"


# ---------------------------------------------------------------- interrupts


def irq_name(view: MachineView, node: NodeView, vector: int | None) -> str:
    """Name of the action behind a vector of this CPU, found in the NICs' MSI-X tables."""
    if vector is None:
        return ""
    return view.msix_names().get((node.number, vector), "")


def irq_words(view: MachineView, node: NodeView, irq: int) -> str:
    """``34 (eth0-TxRx-1)``"""
    name = irq_name(view, node, view.irq_vectors(node).get(irq))
    return f"{irq} ({name})" if name else str(irq)


def busiest_irqs(node: NodeView) -> list[int]:
    """Device interrupts that ever came here, the busiest of the last second first."""
    totals = node.run("irqs")
    seen = [irq for irq, total in enumerate(totals) if total]
    return sorted(seen, key=lambda irq: (-node.delta("irqs", irq), -totals[irq], irq))


def arch_irq(name: str) -> int:
    """Word of ``arch_irqs`` of a row of /proc/interrupts."""
    return ARCH_IRQS.index(name)


def latency_ns(node: NodeView, percent: float) -> float | None:
    """Upper bound of the bucket that holds this percentile of MSI to handler; None without any."""
    buckets = node.run("irq_latency")
    total = sum(buckets)
    if not total:
        return None
    seen = 0
    for n in range(LATENCY_BUCKETS):
        seen += buckets[n]
        if seen * 100 >= percent * total:
            return float(2 << n)
    return float(2 << LATENCY_BUCKETS)


# ---------------------------------------------------------------- time


def shares(node: NodeView) -> tuple[float, float, float]:
    """Shares of the last second in hard interrupts, softirqs, tasks."""
    span = node.span_ns()
    if not span or not node.alive:
        return 0.0, 0.0, 0.0
    hard, soft, tasks = (node.delta(f"{c}_ns") / span for c in ("hardirq", "softirq", "task"))
    return min(hard, 1.0), min(soft, 1.0), min(tasks, 1.0)


def column_shares(node: NodeView, columns: int, span_ns: int) -> list[tuple[float, float, float]]:
    """The same for each column of the last ``span_ns``."""
    width = span_ns // columns
    rows = [node.series(f"{c}_ns", 0, columns, width) for c in ("hardirq", "softirq", "task")]
    return [(h / width, s / width, t / width) for h, s, t in zip(*rows, strict=True)]


def history(node: NodeView, columns: int, span_ns: int = SECOND_NS) -> str:
    """The contexts of the last second as letters.

    A column shows one of the contexts that ran in it: the one that was shown longest ago, so that
    short hard interrupts are seen beside long tasks; idle counts when it had half of the time."""
    shown = dict.fromkeys("HST.", -1)
    out = []
    for at, (hard, soft, tasks) in enumerate(column_shares(node, columns, span_ns)):
        ran = {"H": hard, "S": soft, "T": tasks, ".": 1 - hard - soft - tasks}
        fit = [c for c, share in ran.items() if share > (IDLE_SHARE if c == "." else 0)]
        letter = min(fit, key=lambda c: (shown[c], -ran[c]), default=".")
        shown[letter] = at
        out.append(letter)
    if not node.alive:
        gone = (node.now.time_ns - node.state.since_ns) * columns // span_ns
        out[max(columns - gone, 0) :] = "X" * min(max(gone, 0), columns)
    return "".join(out)


# ---------------------------------------------------------------- tasks


def run_queue(node: NodeView) -> list[Waiting]:
    """Rows of the run queue, with the share of the last second that each task ran."""
    before = {pid: runtime for pid, _, runtime, _ in _rows(node.before("run_queue"))}
    span = node.span_ns()
    current = node.get("current_pid")
    return [
        Waiting(
            pid,
            nice - 20,
            comm,
            min(max(runtime - before.get(pid, runtime), 0) / span, 1.0) if span else 0.0,
            pid == current,
        )
        for pid, nice, runtime, comm in _rows(node.run("run_queue"))
    ]


def _rows(words: list[int]) -> list[tuple[int, int, int, str]]:
    """(pid, nice + 20, runtime_ns, comm) of each used row."""
    rows = []
    for at in range(0, RUN_QUEUE_ROWS * 5, 5):
        pid, nice, runtime = words[at : at + 3]
        if pid:
            comm = b"".join(w.to_bytes(8, "little") for w in words[at + 3 : at + 5])
            rows.append((pid, nice, runtime, comm.rstrip(b"\0").decode("utf-8", "replace")))
    return rows


def just_now(view: MachineView, node: NodeView, events: int) -> list[str]:
    """The last records of the flight recorder, in words."""
    out = []
    for record in view.trace(node.name, events):
        seconds = max(record.time_ns - view.ram.boot_ns, 0) / 1e9
        out.append(f"{seconds:.3f} {_in_words(view, record.event, record.a, record.b)}")
    return out


def _in_words(view: MachineView, event: int, a: int, b: int) -> str:
    name = _EVENT_NAMES.get(event, f"event {event}")
    kind, _, moment = name.rpartition("_")
    if kind == "irq_handler":
        return f"irq {a} {moment}" + (f", vector {b:#x}" if moment == "entry" else "")
    if kind == "softirq":
        return f"{softirq_name(view, a)} {moment}"
    if name == "ipi_send":
        return f"IPI {a:#x} to cpu{b}"
    if kind in ("reschedule", "call_function", "local_timer"):
        return f"{kind.replace('_', ' ')} {a:#x}"
    if name == "napi_poll":
        return f"poll {device(view, a & 0xFFFF)}:{a >> 16} {b & 0xFFFF_FFFF} of {b >> 32}"
    return name
