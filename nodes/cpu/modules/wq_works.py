"""Works that burn CPU and sleep, as Documentation/core-api/workqueue.rst tells of them.

Up to six works w0 to w5, each a list of times in ms: burn, sleep, burn, ... They go to a workqueue
q0, those named in ``q1`` to a second one, or all of them to system_wq (``system``), in the order of
their numbers and at once, on each CPU of ``cpus`` (or on this one). With ``wait`` the module waits
until they are done and reports what happened when, in ms after the first of them began, rounded to
``raster_ms`` (what has no event has no key). ``scale`` stretches all of it, for a busy host; the
keys of the report are as if it had not::

    wq_works: t0=w0-starts t5=w0-sleeps,w1-starts t10=w1-sleeps,w2-starts t15=...
    wq_works: t25=w2-wakes,w2-finishes workers=3 took_ms=25 off_us=2

``off_us`` is the greatest distance of an event from its place on the raster, ``workers`` how many
tasks ran the works, ``took_ms`` when the last one was done. Times to the microsecond are in the
log. Only this CPU's works are reported; those of other CPUs write into the logs there.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.hrtimer import schedule_hrtimeout
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.sched import TASK_UNINTERRUPTIBLE
from nodes.cpu.kernel.workqueue import (
    INIT_WORK,
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_UNBOUND,
    Work,
    Workqueue,
    alloc_workqueue,
    destroy_workqueue,
    flush_work,
    queue_work_on,
)
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "wq_works"
WORKS = 6
NAMES = tuple(f"w{n}" for n in range(WORKS))
FLAGS = {"CPU_INTENSIVE": WQ_CPU_INTENSIVE, "HIGHPRI": WQ_HIGHPRI, "UNBOUND": WQ_UNBOUND}
STEPS = ("starts", "sleeps", "wakes", "finishes")
#: Number of the first work of CPU 0.
FIRST = words.WQ_WORKS_WORK
PHASES_MAX, PHASE_MS_MAX = 16, 60_000
#: A log line has room for so many.
FIGURES_A_LINE = 4
MS = 1_000_000


class Board:
    """What the module keeps on a CPU: this CPU's works, and what they did when."""

    def __init__(self) -> None:
        self.works: dict[tuple[int, int], Work] = {}  # by (CPU where it is to run, number)
        self.queues: list[Workqueue] = []
        self.events: list[tuple[int, str, str]] = []  # (ns, work, step)
        self.pids: list[int] = []

    def note(self, cpu: Cpu, name: str, step: str) -> None:
        """printk it too, with the worker and the time after the first work began."""
        now = cpu.now()
        self.events.append((now, name, step))
        if cpu.current.pid not in self.pids:
            self.pids.append(cpu.current.pid)
        after_ms = (now - self.events[0][0]) / MS
        printk(cpu, f"{NAME}: {after_ms:.3f} ms: {cpu.current.comm}: {name} {step}")


def numbers(text: str) -> list[int] | None:
    """``0,1`` as numbers; None: something in it is none."""
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        return None
    return [int(part) for part in parts]


def phases(text: str) -> list[int] | None:
    """``5,10,5`` as numbers; None: that is no list of times."""
    times = numbers(text)
    fits = times is not None and len(times) <= PHASES_MAX and max(times) <= PHASE_MS_MAX
    return times if fits else None


def given(params: Values) -> dict[str, list[int] | None]:
    """The works there are, and their phases."""
    return {name: phases(str(params[name])) for name in NAMES if params[name]}


def usleep(cpu: Cpu, ns: int) -> Context:
    """Exactly so long: usleep_range without a range."""
    end = cpu.now() + ns
    while cpu.now() < end:
        cpu.current.state = TASK_UNINTERRUPTIBLE
        yield from schedule_hrtimeout(cpu, end)


def work_fn(cpu: Cpu, name: str, times: Iterable[int]) -> Context:
    """Burn, sleep, burn, ..."""
    board: Board = cpu.module_data[NAME]
    board.note(cpu, name, "starts")
    for number, ms in enumerate(times):
        if number % 2:
            board.note(cpu, name, "sleeps")
            yield from usleep(cpu, ms * MS)
            board.note(cpu, name, "wakes")
        else:
            yield from mdelay(cpu, ms)
    board.note(cpu, name, "finishes")


def on_each_cpu(cpu: Cpu, params: Values) -> None:
    """Make the works of all CPUs known: whoever queues one on another CPU must know it too."""
    board = cpu.module_data[NAME] = Board()
    for name, unscaled in given(params).items():
        number = NAMES.index(name)
        times = [ms * params["scale"] for ms in unscaled or []]
        for target in range(cpu.machine.cpus):
            board.works[target, number] = INIT_WORK(
                cpu,
                FIRST + target * WORKS + number,
                name,
                lambda cpu, name=name, times=times: work_fn(cpu, name, times),  # type: ignore[misc]
            )


def reported(board: Board, raster_ms: int, scale: int) -> dict[str, object]:
    """Events by their time on the raster; at one time by works, then by steps."""
    found: dict[int, list[tuple[str, int]]] = {}
    off_ns = 0
    begin = board.events[0][0]
    for at, name, step in board.events:
        place = round((at - begin) / (raster_ms * scale * MS)) * raster_ms
        off_ns = max(off_ns, abs(at - begin - place * scale * MS))
        found.setdefault(place, []).append((name, STEPS.index(step)))
    figures: dict[str, object] = {
        f"t{place}": ",".join(f"{name}-{STEPS[step]}" for name, step in sorted(events))
        for place, events in sorted(found.items())
    }
    took_ms = (board.events[-1][0] - begin) // (scale * MS)
    return figures | {
        "workers": len(board.pids), "took_ms": took_ms, "off_us": off_ns // 1000,
    }  # fmt: skip


def leave(cpu: Cpu) -> Context:
    """Wait for the works, and give the workqueues back."""
    board: Board = cpu.module_data[NAME]
    for work in board.works.values():
        yield from flush_work(cpu, work)
    while board.queues:
        yield from destroy_workqueue(cpu, board.queues.pop())


@module(
    NAME,
    params={
        "w0": ("5,10,5", "burn, sleep, burn, ... in ms"),
        "w1": ("5,10", "the same"),
        "w2": ("5,10", "the same"),
        "w3": ("", "the same"),
        "w4": ("", "the same"),
        "w5": ("", "the same"),
        "max_active": (0, "of q0; 0: the default"),
        "flags": ("", "of q0: CPU_INTENSIVE, HIGHPRI, UNBOUND"),
        "q1": ("", "works that go to a second workqueue"),
        "q1_flags": ("", "of that one"),
        "q1_max_active": (0, "of that one"),
        "system": (False, "system_wq instead of q0"),
        "cpus": ("", "where they are queued; empty: here"),
        "wait": (True, "until they are done, and report"),
        "raster_ms": (5, "times are rounded to it"),
        "scale": (1, "all times are so many times longer"),
    },
    exit=leave,
    on_each_cpu=on_each_cpu,
)
def init(cpu: Cpu, params: Values) -> Context:
    """Queue works that burn and sleep, and log what happens when."""
    board: Board = cpu.module_data[NAME]
    second = [name for name in str(params["q1"]).split(",") if name]
    cpus = numbers(str(params["cpus"])) if params["cpus"] else []
    flags = [_flags(params[key]) for key in ("flags", "q1_flags")]
    if (
        None in flags
        or cpus is None
        or None in given(params).values()
        or any(name not in given(params) for name in second)
        or any(number not in cpu.online_cpus for number in cpus)
        or params["raster_ms"] < 1
        or not 1 <= params["scale"] <= 1000
    ):
        return -EINVAL
    if params["system"]:
        first = cpu.wq.system_wq
    else:
        first = yield from alloc_workqueue(cpu, "q0", flags[0] or 0, params["max_active"])
        board.queues.append(first)
    queues = dict.fromkeys(given(params), first)
    if second:
        room = params["q1_max_active"]
        other: Workqueue = yield from alloc_workqueue(cpu, "q1", flags[1] or 0, room)
        board.queues.append(other)
        queues |= dict.fromkeys(second, other)
    for target in cpus or [cpu.number]:
        for name, queue in queues.items():
            work = board.works[target, NAMES.index(name)]
            yield from queue_work_on(cpu, target, queue, work)
    if not params["wait"]:
        return 0
    for target in cpus or [cpu.number]:
        for name in queues:
            yield from flush_work(cpu, board.works[target, NAMES.index(name)])
    if board.events:
        figures = list(reported(board, params["raster_ms"], params["scale"]).items())
        for at in range(0, len(figures), FIGURES_A_LINE):
            report(cpu, NAME, **dict(figures[at : at + FIGURES_A_LINE]))
    return 0


def _flags(text: str) -> int | None:
    """WQ_ flags by their words."""
    names = [word for word in text.split(",") if word]
    if any(name not in FLAGS for name in names):
        return None
    return sum(FLAGS[name] for name in names)
