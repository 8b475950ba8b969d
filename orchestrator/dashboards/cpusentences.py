"""Line 2 of a CPU's screen: in which context is it, and for whom?"""

from __future__ import annotations

from orchestrator.dashboards import cpufacts
from orchestrator.dashboards.draw import duration, plural, rate
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.sentences import DEAD, FROZEN, SILENT, Row, Words, always


def _offline(view: MachineView, node: NodeView) -> Words:
    return None if node.get("online") else {"boot": view.boot_cpu.name}


def _stalled(view: MachineView, node: NodeView) -> Words:
    nic = node.get("stalled_on")
    if not 0 < nic <= len(view.nics):
        return None
    read = cpufacts.stalled_read(view, node)
    name = view.nic(nic - 1)
    return {"nic": name, "for": f" for {duration(view.age_ns(read))}" if read else ""}


def _in_hardirq(view: MachineView, node: NodeView) -> Words:
    irq = node.get("hardirq_now")
    if not irq:
        return None
    return {
        "irq": cpufacts.irq_words(view, node, irq - 1),
        "over": cpufacts.interrupted(view, node),
    }


def _polling(view: MachineView, node: NodeView) -> Words:
    poll = cpufacts.napi(view, node)
    if poll is None or not node.get("softirq_now"):
        return None
    return {
        "device": poll.device,
        "queue": poll.queue,
        "polled": poll.polled,
        "weight": poll.weight,
        "softirq": cpufacts.softirq_name(view, node.get("softirq_now") - 1),
        "where": cpufacts.softirq_where(view, node),
    }


def _in_softirq(view: MachineView, node: NodeView) -> Words:
    vector = node.get("softirq_now")
    if not vector:
        return None
    return {
        "softirq": cpufacts.softirq_name(view, vector - 1),
        "where": cpufacts.softirq_where(view, node),
    }


def _in_task(view: MachineView, node: NodeView) -> Words:
    if not node.get("current_pid"):
        return None
    waiting = max(node.get("nr_running") - 1, 0)
    return {
        "task": cpufacts.task(node),
        "nice": node.get("current_nice") - 20,
        "others": f"{plural(waiting, 'other task')} waiting" if waiting else "nobody waits",
    }


def _pending(view: MachineView, node: NodeView) -> Words:
    names = cpufacts.pending(view, node)
    return {"names": " ".join(names)} if names else None


def _busy_lately(view: MachineView, node: NodeView) -> Words:
    interrupts = node.rate("vectors_taken")
    if interrupts < 0.5:
        return None
    return {
        "interrupts": rate(interrupts),
        "softirqs": rate(node.rate("softirqs")),
        "busy": f"{100 * sum(cpufacts.shares(node)):.0f}",
    }


CPU = (
    DEAD,
    FROZEN,
    Row("Offline: it waits for INIT and STARTUP from {boot}.", _offline),
    Row("Stalled{for}: a register read from {nic} has no answer yet.", _stalled),
    SILENT,
    Row("Handling interrupt {irq}{over}.", _in_hardirq),
    Row("Polling {device} queue {queue} ({polled} of {weight}) in {softirq}, {where}.", _polling),
    Row("Running softirq {softirq}, {where}.", _in_softirq),
    Row("Running {task} (nice {nice}); {others}.", _in_task),
    Row("Idle, but softirqs are pending: {names}.", _pending),
    Row("Idle now; in a second {interrupts} interrupts, {softirqs} softirqs, {busy} % busy.",
        _busy_lately),
    Row("Idle: no task can run and no interrupt came for a second.", always),
)  # fmt: skip
