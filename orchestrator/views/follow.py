"""The verb ``follow``: run a ping and print the way of each packet, a line a step, with reasons.

While it runs, all nodes record (bits in the masks of their flight recorders; each writes into its
own ring in RAM). Records of a packet carry its key, so those of different nodes can be joined;
records without a key (interrupts, doorbells) belong to the packet in whose time they fall. The
microseconds are those of this emulator on this host, or virtual.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.machine import APIC, LAN, MachineSettings
from orchestrator.captures.capture import close_tap, open_tap
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, Steps, Wait
from orchestrator.tracing.recording import Event, Recording
from orchestrator.verbs.kernel import spoken
from orchestrator.views import followtable
from orchestrator.views.followtable import ROWS, World

_LOOK_NS = 100_000_000
#: Records that come after the command's end: the last interrupt's return, write-backs.
_AFTER_NS = 2_000_000
#: Columns from which the reason stands beside what happens.
WIDE = 110
_TEXT_WIDTH = 49
#: A packet's key without its class: both directions of one echo.
_KEY_MASK = 0xFFFF_FFFF
_MERGED_TEXTS_MAX = 9


class Step(NamedTuple):
    """One line of the listing."""

    time_ns: int
    process: str
    context: str
    what: str
    why: str


def kind_of(settings: MachineSettings, node: str) -> str:
    """Which table of events a node has."""
    if node in (APIC, LAN):
        return node
    return "cpu" if node in settings.cpu_names else "nic"


def follow(session: Session, argv: Sequence[str]) -> Steps:
    """Run the command traced, then print the listing of each packet; only ping sends any."""
    argv = spoken(argv)
    if not argv or argv[0] != "ping":
        what = f"follow knows ping alone, not `{argv[0]}`" if argv else "follow what?"
        raise BottomhalfError(what, "bottomhalf follow ping -c 1 gateway")
    # a tap on any device, without promiscuous mode, so that it is seen where taps look
    tap = yield from open_tap(session, "any", promiscuous=False)
    settings = session.machine.settings
    masks = {name: followtable.mask(kind_of(settings, name)) for name in settings.node_names}
    recording = Recording(session.machine.ram, masks)
    try:
        code, said, events = yield from _run(session, argv, recording)
    finally:
        recording.stop()
    yield from close_tap(session, tap)
    world = yield from _world(session)
    listings = trace_packets(settings, events, world)
    if session.json:
        rows = [[step._asdict() for step in listing] for listing in listings]
        session.out(
            json.dumps({"packets": rows, "exit": code, "lost_records": recording.lost}) + "\n"
        )
        return code
    _print(session, listings, said, recording.lost)
    return code


def _run(
    session: Session, command: tuple[str, ...], recording: Recording
) -> Generator[Wait, None, tuple[int, list[tuple[int, str]], list[Event]]]:
    machine = session.machine
    events: list[Event] = []
    job = machine.spawn(session.cpu, command)
    said: list[tuple[int, str]] = []
    while not job.done:
        until = machine.now_ns() + _LOOK_NS
        yield Wait(until, lambda: job.done or bool(session.signals))
        while session.signals:
            machine.signal(job, session.signals.pop(0))
        events += recording.pull()
    yield from session.sleep(_AFTER_NS)
    events += recording.pull()
    said = job.take()
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", code=1, program="ping")
    assert job.exit_code is not None
    return job.exit_code, said, events


def _world(session: Session) -> Generator[Wait, None, World]:
    """Names of devices and interrupts, as the boot CPU has them."""
    machine = session.machine
    settings = machine.settings
    boot = settings.cpu_names[0]
    kernel = yield from session.answer(machine.ask(boot, "kernel"))
    state = yield from session.answer(machine.ask(boot, "state"))
    irqs: dict[int, str] = {}
    devices: dict[int, str] = {}
    if kernel.ok:
        irqs = {irq: ", ".join(names) for irq, _, _, names in kernel.value["irqs"]}
    if state.ok:
        devices = {index: name for name, index in state.value["ifindexes"].items()}
    params = with_overrides(PRESETS[settings.era], settings.overrides)
    bond = settings.bond.name if settings.bond else ""
    return World(params, devices, irqs, bond, settings.era)


# ---------------------------------------------------------------- joining


def trace_packets(
    settings: MachineSettings, events: Iterable[Event], world: World
) -> list[list[Step]]:
    """A listing for each echo, in the order in which they were sent."""
    ordered = sorted(events)
    kinds = {name: kind_of(settings, name) for name in settings.node_names}
    keys: dict[int, list[Event]] = {}
    for event in ordered:
        if ROWS[kinds[event.node]][event.record.event].packet and event.record.a:
            keys.setdefault(event.record.a & _KEY_MASK, []).append(event)
    listings = []
    for key, own in keys.items():
        if own[0].record.event != followtable.SENDMSG or kinds[own[0].node] != "cpu":
            continue  # somebody else's packet
        first, last = ordered.index(own[0]), ordered.index(own[-1])
        listings.append(_listing(kinds, key, ordered[first : last + 1], world))
    return listings


def _listing(kinds: dict[str, str], key: int, events: Sequence[Event], world: World) -> list[Step]:
    steps: list[Step] = []
    origin = events[0].time_ns
    for event in events:
        kind, record = kinds[event.node], event.record
        row = ROWS[kind][record.event]
        if row.packet and record.a & _KEY_MASK != key:
            continue
        is_softirq = kind == "cpu" and record.event == followtable.SOFTIRQ_ENTRY
        if is_softirq and record.a != followtable.NET_RX:
            continue
        if followtable.is_table_update(kind, record, world) and not _called(steps):
            continue  # a table of the kernel's, replicated while the packet was under way
        what = followtable.render(row.text, kind, record, world)
        why = followtable.render(row.why, kind, record, world)
        context = followtable.context(kind, row, record)
        before = steps[-1] if steps else None
        if not what or (row.after and (before is None or row.after not in before.what)):
            continue
        joins = (
            not row.opens
            and before is not None
            and (before.process, before.context) == (event.node, context)
            and before.what.count(", ") < _MERGED_TEXTS_MAX
        )
        if joins:
            assert before is not None
            joint = ": " if before.what == "NET_RX" else ", "
            steps[-1] = before._replace(what=before.what + joint + what, why=why or before.why)
        else:
            steps.append(Step(event.time_ns - origin, event.node, context, what, why))
    return steps


def _called(steps: Sequence[Step]) -> bool:
    """Has the packet's own way asked for a call-function interrupt?"""
    return any("call function" in step.what for step in steps)


# ---------------------------------------------------------------- printing


def _print(
    session: Session, listings: list[list[Step]], said: Sequence[tuple[int, str]], lost: int
) -> None:
    text = "".join(part for stream, part in said if stream == 1)
    replies = [line for line in text.splitlines() if "icmp_seq=" in line]
    virtual = session.machine.runtime == "simulation"
    if listings:
        session.out(
            f"  us   process  context  {'what happens':<{_TEXT_WIDTH}} "
            f"{'why' if session.width >= WIDE else '(why)'}"
            f"{'   (virtual time)' if virtual else ''}\n"
        )
    for number, listing in enumerate(listings):
        if number:
            session.out("\n")
        for line in render(listing, session.width):
            session.out(line + "\n")
        if number < len(replies) and _ends(listing):
            indent = 25 if session.width >= WIDE else 2
            session.out(f"{'':>{indent}}{replies[number]}\n")
    if not listings or len(replies) < len(listings):
        session.out(text)
    for stream, part in said:
        if stream == 2:
            session.err(part)
    if lost:
        session.err(f"bottomhalf: {lost} trace records were overwritten before they were read\n")


def _ends(listing: Sequence[Step]) -> bool:
    return bool(listing) and "recvmsg" in listing[-1].what


def render(listing: Sequence[Step], width: int = WIDE) -> list[str]:
    """The lines of one packet; long ones go on below themselves. A terminal of fewer than ``WIDE``
    columns has the reason on a line of its own."""
    lines = []
    for step in listing:
        parts = _wrap(step.what, _TEXT_WIDTH)
        head = f"{step.time_ns / 1000:5.0f}  {step.process:<8} {step.context:<8}"
        beside = step.why if width >= WIDE else ""
        lines.append(f"{head} {parts[0]:<{_TEXT_WIDTH}} {beside}".rstrip())
        lines += [f"{'':>24}  {part}" for part in parts[1:]]
        if step.why and not beside:
            lines.append(f"{'':>24}  ({step.why})")
    return lines


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width - 2 * (len(lines) > 1):
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
