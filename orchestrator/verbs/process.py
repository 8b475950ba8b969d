"""Verbs of the process layer: what signals do, and what the operating system says of a node.

None of them tells the kernel on the CPUs anything; it has to notice. ``restart`` is the exception
and what an administrator does: remove the dead device, rescan the slot, enslave the NIC again. In
a slot with hot-plug the kernel does that by itself, and ``restart`` only puts a new card in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from bus.ram import COMMON_SCHEMA
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import APIC
from nodes.nic.page import NIC_SCHEMA
from orchestrator.errors import OK, BottomhalfError
from orchestrator.machines.machine import Machine, NodeState
from orchestrator.session import Session, Steps, Wait, drive
from orchestrator.verbs import parse, start, usage
from orchestrator.verbs.targets import resolve

if TYPE_CHECKING:
    from orchestrator.dashboards.model import MachineView

#: Bits of the CPU page's ``nic_flags``.
NIC_SLAVE = 8

#: Of the command register: a driver has the card.
_BUS_MASTER = 4
#: PCI Express: no configuration request sooner than 100 ms after a device got power.
_AFTER_POWER_NS = 100_000_000
#: The operating system delivers a signal at once; this is for a host that hangs.
_SIGNAL_TIMEOUT_MS = 2000
_SAMPLE_NS = 250_000_000


def ago(duration_ns: int) -> str:
    """``64 ms``, ``12 s``, ``3 min``, ``2 h``."""
    for unit, size in (("h", 3_600_000_000_000), ("min", 60_000_000_000), ("s", 1_000_000_000)):
        if duration_ns >= size:
            return f"{duration_ns // size} {unit}"
    return f"{max(0, duration_ns) // 1_000_000} ms"


def death(machine: Machine, state: NodeState) -> str:
    """``SIGKILL, 12 s ago``."""
    return f"{state.cause}, {ago(machine.now_ns() - state.since_ns)} ago"


def who(state: NodeState) -> str:
    """``eth0 (pid 41207)``; the simulation has no pids."""
    return state.name if state.pid is None else f"{state.name} (pid {state.pid})"


def note(session: Session, what: str, hint: str) -> None:
    """It was so already: said, but fine."""
    session.err(BottomhalfError(what, hint).text())


def _targets(session: Session, verb: str, argv: Sequence[str]) -> list[str]:
    options = parse(verb, argv)
    if not options.words:
        raise BottomhalfError(f"{verb} what?", usage(verb))
    return resolve(session.machine, options.words)


def kill(session: Session, argv: Sequence[str]) -> Steps:
    """SIGKILL."""
    machine = session.machine
    for node in _targets(session, "kill", argv):
        state = machine.state(node)
        if not state.alive:
            note(
                session,
                f"{node} is already dead ({death(machine, state)})",
                f"bottomhalf restart {node}",
            )
            continue
        yield from end(session, node, machine.kill)
        cpu = node in machine.settings.cpu_names
        session.did(
            f"{who(state)} got SIGKILL",
            "" if cpu else f"restart {node}",
            node=node, pid=state.pid, signal="SIGKILL",
        )  # fmt: skip
        if cpu:
            session.remark("  mend: none, a CPU comes back with the next machine: bottomhalf down")
    return OK


def end(session: Session, node: str, how: Callable[[str], None]) -> Generator[Wait, None, None]:
    """Kill or pull, and wait until it is dead."""
    how(node)
    yield from session.until(_is_dead(session.machine, node), _SIGNAL_TIMEOUT_MS)


def _is_frozen(machine: Machine, node: str, frozen: bool) -> Callable[[], bool]:
    return lambda: machine.state(node).frozen == frozen


def _is_dead(machine: Machine, node: str) -> Callable[[], bool]:
    return lambda: not machine.state(node).alive


def _stopping(verb: str, freezing: bool) -> Callable[[Session, Sequence[str]], Steps]:
    def run(session: Session, argv: Sequence[str]) -> Steps:
        machine = session.machine
        for node in _targets(session, verb, argv):
            state = machine.state(node)
            if not state.alive:
                raise BottomhalfError(
                    f"{node} is dead ({death(machine, state)})", f"bottomhalf restart {node}"
                )
            if state.frozen == freezing:
                now = "already frozen" if freezing else "not frozen"
                note(session, f"{node} is {now}", usage("thaw" if freezing else "freeze"))
                continue
            (machine.freeze if freezing else machine.thaw)(node)
            yield from session.until(_is_frozen(machine, node, freezing), _SIGNAL_TIMEOUT_MS)
            name = "SIGSTOP" if freezing else "SIGCONT"
            session.did(
                f"{who(state)} got {name}",
                f"thaw {node}" if freezing else "",
                node=node, pid=state.pid, signal=name,
            )  # fmt: skip
        return OK

    return run


freeze = _stopping("freeze", True)
thaw = _stopping("thaw", False)


def restart(session: Session, argv: Sequence[str]) -> Steps:
    """A new process in a dead node's place; a NIC is removed, found again and enslaved."""
    machine = session.machine
    for node in _targets(session, "restart", argv):
        state = machine.state(node)
        if state.alive and not _untouched(machine, node):
            note(session, f"{who(state)} is alive", f"end it first: bottomhalf kill {node}")
            continue
        if node in machine.settings.cpu_names:
            raise BottomhalfError(
                f"{node}: a killed CPU cannot be restarted, what its kernel knew is lost",
                "bottomhalf down, then bottomhalf up -d     (chcpu takes one out and back)",
            )
        if node in machine.settings.nic_names:
            yield from _new_card(session, node)
        else:
            machine.restart(node)
        new = machine.state(node)
        what = "is a new process" if not state.alive else "is found again, the process is the same"
        session.did(f"{who(new)} {what}", node=node, pid=new.pid)
        if node == APIC:
            _waiting_for_lost(session)
    return OK


def _waiting_for_lost(session: Session) -> None:
    """An interrupt that was lost stays lost: its vector is masked until the handler has run."""
    machine = session.machine
    for nic in machine.settings.nic_names:
        if machine.state(nic).alive:
            lost = machine.ram.page(nic, NIC_SCHEMA)["msi_lost_peer_dead"]
            if lost:
                session.remark(
                    f"  {nic} lost {lost} MSIs meanwhile and may wait for them for ever\n"
                    f"  mend: bottomhalf {session.on}kill {nic}; "
                    f"bottomhalf {session.on}restart {nic}"
                )


def has_hotplug(machine: Machine, nic: str) -> bool:
    """Does its slot tell the kernel what happens in it? A guest's are QEMU's, and tell nothing."""
    settings = machine.settings
    return not settings.guest and settings.nics[settings.nic_names.index(nic)].hotplug


def _untouched(machine: Machine, node: str) -> bool:
    """A card that was put in, that no driver has switched on, and no slot has told about."""
    if node not in machine.settings.nic_names or has_hotplug(machine, node):
        return False
    new = machine.state(node).incarnation > 1
    return new and not machine.ram.page(node, NIC_SCHEMA)["pci_command"] & _BUS_MASTER


def _new_card(session: Session, nic: str) -> Generator[Wait, None, None]:
    """A card is put in, and without hot-plug an administrator sees to the rest."""
    machine = session.machine
    if machine.settings.guest:
        from orchestrator.verbs import guest  # noqa: PLC0415

        yield from guest.new_card(session, nic)
        return
    boot_cpu = machine.settings.cpu_names[0]
    kernel_runs = machine.state(boot_cpu).alive
    by_itself = has_hotplug(machine, nic)
    if kernel_runs and not by_itself:
        yield from _tool(session, ("pci-remove", nic))
    if not machine.state(nic).alive:
        machine.restart(nic)
    if by_itself and kernel_runs:
        return
    yield from session.sleep(_AFTER_POWER_NS)
    if not kernel_runs:
        session.err(f"bottomhalf: {boot_cpu} is dead, no kernel looks at the new {nic}\n")
        return
    yield from _tool(session, ("pci-rescan", nic))
    bond = machine.settings.bond
    if bond is not None and nic in bond.slaves and not _flags(machine, nic) & NIC_SLAVE:
        yield from _tool(session, ("enslave", nic))


def _flags(machine: Machine, nic: str) -> int:
    page = machine.ram.page(machine.settings.cpu_names[0], CPU_SCHEMA)
    return page.run("nic_flags")[machine.settings.nic_names.index(nic)]


def _tool(session: Session, argv: tuple[str, ...]) -> Generator[Wait, None, None]:
    job = yield from session.program(argv, session.machine.settings.cpu_names[0], show=False)
    if job.failed or job.exit_code:
        said = "".join(text for _, text in job.take()).strip() or job.failed
        raise BottomhalfError(
            f"{' '.join(argv)} failed: {said or f'exit code {job.exit_code}'}",
            "bottomhalf dmesg says what the kernel did",
        )


# ---------------------------------------------------------------- ps


def ps(session: Session, argv: Sequence[str]) -> Steps:
    """One row a node; CPU % is measured over a quarter of a second."""
    options = parse("ps", argv, flags=("--json",))
    if options.words:
        raise BottomhalfError(f"ps shows all and takes no `{options.words[0]}`", usage("ps"))
    machine = session.machine
    before = {name: _cpu_seconds(state) for name, state in machine.states().items()}
    began = machine.now_ns()
    yield from session.sleep(_SAMPLE_NS)
    passed_s = max(machine.now_ns() - began, 1) / 1e9
    rows = [
        _row(machine, state, before[name], passed_s) for name, state in machine.states().items()
    ]
    if session.json or "--json" in options.flags:
        session.out(json.dumps(rows) + "\n")
    else:
        session.out(_table(rows))
    return OK


def _cpu_seconds(state: NodeState) -> float | None:
    import psutil  # noqa: PLC0415

    if state.pid is None or not state.alive:
        return None
    try:
        times = psutil.Process(state.pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _row(
    machine: Machine, state: NodeState, before_s: float | None, passed_s: float
) -> dict[str, Any]:
    page = machine.ram.page(state.name, COMMON_SCHEMA)
    after_s = _cpu_seconds(state)
    percent = None
    if before_s is not None and after_s is not None:
        percent = round(max(0.0, after_s - before_s) / passed_s * 100, 1)
    return {
        "node": state.name,
        "pid": state.pid,
        "state": state_word(state),
        "incarnation": state.incarnation,
        "uptime_s": round((machine.now_ns() - state.since_ns) / 1e9, 3) if state.alive else None,
        "cpu_percent": percent,
        "pss_bytes": _pss(state),
        "messages_in": page["msgs_in"],
        "messages_out": page["msgs_out"],
        "drops": page["send_full"] + page["send_dead"] + page["stale"] + page["rejected"],
    }


def state_word(state: NodeState) -> str:
    """One word for the state of a process."""
    if not state.alive:
        return f"dead ({state.cause})"
    if state.frozen:
        return "frozen"
    return "silent" if state.silent else "running"


def _pss(state: NodeState) -> int | None:
    import psutil  # noqa: PLC0415

    if state.pid is None or not state.alive:
        return None
    try:
        return int(psutil.Process(state.pid).memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return None


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'NODE':<6}{'PID':>8} {'STATE':<15}{'UP':>8}{'CPU%':>6}{'PSS':>7}"
             f"{'MSG IN':>10}{'MSG OUT':>10}{'DROPS':>7}"]  # fmt: skip
    for row in rows:
        up = "-" if row["uptime_s"] is None else ago(int(row["uptime_s"] * 1e9))
        cpu = "-" if row["cpu_percent"] is None else f"{row['cpu_percent']:.1f}"
        pss = "-" if row["pss_bytes"] is None else f"{row['pss_bytes'] / 1e6:.1f}M"
        lines.append(
            f"{row['node']:<6}{row['pid'] or '-':>8} {row['state']:<15}{up:>8}{cpu:>6}{pss:>7}"
            f"{row['messages_in']:>10}{row['messages_out']:>10}{row['drops']:>7}"
        )
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- top


def top(session: Session, argv: Sequence[str]) -> Steps:
    """The dashboards of a running machine; the whole, or one process."""
    from orchestrator.dashboards import screens  # noqa: PLC0415  (rich is slow to import)
    from orchestrator.scenarios.story import for_terminal  # noqa: PLC0415

    options = parse("top", argv, ("--once", "--json", "--pools"), ("--svg",))
    machine = session.machine
    if len(options.words) > 1:
        raise BottomhalfError("top shows one process at a time", usage("top"))
    nodes = resolve(machine, options.words)
    node = nodes[0] if nodes else None
    if "--pools" in options.flags:
        if node not in machine.settings.cpu_names:
            raise BottomhalfError(
                "top --pools shows the worker pools of a CPU", "bottomhalf top cpu0 --pools"
            )
        node = f"{node}:pools"
    as_json = session.json or "--json" in options.flags
    picture = options.value("--svg")
    if not (as_json or picture or "--once" in options.flags) and for_terminal():
        run_dashboard(machine, node, lambda: bool(session.signals))
        return OK
    view = view_of(machine)
    until = machine.now_ns() + _GATHER_NS
    while machine.now_ns() < until and not session.signals:
        yield from session.sleep(_GATHER_STEP_NS)
        view.sample()
    view.sample(force=True)
    if picture:
        try:
            screens.svg(view, node, picture)
        except OSError as error:
            raise BottomhalfError(f"--svg {picture}: {error.strerror}", usage("top")) from None
        session.out(f"{picture}\n")
    if as_json:
        session.out(json.dumps(screens.as_json(view, node)) + "\n")
    elif not picture:
        session.out(screens.once(view, node).rstrip("\n") + "\n")
    return OK


_GATHER_NS = 1_000_000_000
_GATHER_STEP_NS = 16_000_000


def view_of(machine: Machine) -> MachineView:
    """What the dashboards look at."""
    from orchestrator.dashboards.model import MachineView  # noqa: PLC0415

    return MachineView(
        machine.ram,
        machine.settings,
        machine.states,
        machine.now_ns,
        virtual=machine.runtime == "simulation",
        archived=machine.archived_page,
    )


def run_dashboard(
    machine: Machine, node: str | None, done: Callable[[], bool] | None = None
) -> str:
    """Show the dashboards on this terminal until a key or ``done()`` ends it: how it was left."""
    from orchestrator.dashboards.live import run_top  # noqa: PLC0415

    def act(line: str) -> str:
        said: list[str] = []
        session = Session(machine, out=said.append, err=said.append)
        try:
            drive(session, start(session, line.split()))
        except BottomhalfError as error:
            said.append(error.text())
        return "".join(said)

    return run_top(view_of(machine), node, act=act, done=done)
