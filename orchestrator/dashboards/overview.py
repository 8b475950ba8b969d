"""The whole machine on one screen: who is wired to whom, the bond, the ping, log and ledger."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from nodes.lan.page import GATEWAY_PORT
from orchestrator.dashboards import cpufacts, facts, lanfacts, ledgerbox
from orchestrator.dashboards.common import PLAIN, Size, footer, header
from orchestrator.dashboards.draw import (
    HEAT,
    STYLES,
    WIDTH,
    Box,
    Frame,
    Line,
    Shelf,
    compose,
    fit,
    rate,
    styled,
    two,
)
from orchestrator.dashboards.model import MANY_CPUS, MachineView, NodeView
from orchestrator.dashboards.overviewsentences import GUEST, OVERVIEW
from orchestrator.dashboards.sentences import sentence

KEYS = "0-{last} open   k kill  f freeze  c cable  r restart   space hold view   q quit"
_TITLE = "LAN ------- NICs -------------------- interrupts ----- CPUs, last second"
#: Columns of the picture: LAN, NICs, interrupts, a wire behind each; the rest is for the CPUs.
_LAN, _NIC, _IRQ = 12, 24, 12
#: Row of the picture where the switch and the interrupt controller stand.
_HUB = 2
_HISTORY = 22


def render(view: MachineView, size: Size = PLAIN) -> Frame:
    """The overview in exactly the given size."""
    shelves = [
        Shelf((_picture(view),)),
        *_kernel_shelves(view),
        *ledgerbox.shelf(view),
        Shelf((_broken_now(view),)),
    ]
    keys = KEYS.format(last=len(view.nodes) - 1)
    return compose(
        header(view, None, size),
        sentence_of(view),
        shelves,
        footer(keys, size),
        size.width,
        size.height,
    )


def _kernel_shelves(view: MachineView) -> list[Shelf]:
    """What our kernel knows; a guest's tells its own console."""
    if view.settings.guest:
        return []
    log = Box("kernel log", lambda c, n: _log(view, c, n), 3, 1, grows=True)
    return [Shelf((_bond(view), _ping(view))), Shelf((log,))]


def sentence_of(view: MachineView) -> str:
    """Line 2 of the overview."""
    if view.settings.guest:
        return sentence(GUEST, view, view.lan)
    return sentence(OVERVIEW, view, view.boot_cpu)


# ---------------------------------------------------------------- picture


def _picture(view: MachineView) -> Box:
    """LAN, NICs, interrupt controller and CPUs, and whether the wires between them live."""
    nics, lights, buses = _nic_rows(view)
    cpus, heads = _cpu_rows(view)
    rows = max(len(nics), len(cpus), 6)
    wires = (
        _wire(rows, lights, "|"),
        _wire(rows, buses, "="),
        _wire(rows, heads, "|"),
    )
    parts = (_lan_rows(view, rows), wires[0], nics, wires[1], _irq_rows(view, rows), wires[2], cpus)
    widths = (_LAN, 1, _NIC, 1, _IRQ, 1)

    def draw(columns: int, height: int) -> Sequence[Line]:
        out = []
        for row in range(height):
            cells = [part[row] if row < len(part) else "" for part in parts]
            line = Text()
            for cell, width in zip(cells, widths, strict=False):
                line.append_text(fit(cell, width))
            out.append(line.append_text(fit(cells[-1], max(columns - len(line), 0))))
        return out

    return Box(_TITLE, draw, rows)


def _wire(rows: int, ends: dict[int, Text], line: str) -> list[Line]:
    """A vertical line through the hub's row and all ends."""
    first, last = min((*ends, _HUB)), max((*ends, _HUB))
    out: list[Line] = [""] * max(rows, last + 1)
    for row in range(first, last + 1):
        out[row] = ends.get(row, Text("+" if row == _HUB else line, "dim"))
    return out


def _lan_rows(view: MachineView, rows: int) -> list[Line]:
    """Gateway, switch, and the line between them."""
    lan = view.lan
    out: list[Line] = [""] * rows
    out[0] = f"  {lanfacts.port_name(view, GATEWAY_PORT)}"
    out[1] = f"    | {rate(lan.rate('frames_in', lanfacts.words(GATEWAY_PORT)))}/s"
    name = Text(f"  {lan.number} ").append("lan ", "bold" if lan.running else STYLES["X"])
    if not lan.alive:
        out[_HUB] = name.append("DEAD", STYLES["X"])
    elif lan.state.frozen:
        out[_HUB] = name.append("STOP", STYLES["S"])
    else:
        out[_HUB] = name.append("=" * (_LAN - len(name)), "dim")
    return out


def _nic_rows(view: MachineView) -> tuple[list[Line], dict[int, Text], dict[int, Text]]:
    """Lines of the NICs; ends of their fibres and of their PCIe links by row."""
    bond = facts.bond(view)
    roles = {s.nic: "active" if s.active else "backup" for s in bond.slaves} if bond else {}
    lines: list[Line] = []
    lights, buses = {}, {}
    for nic in view.nics:
        glyph, word, style = _nic_state(view, nic)
        row = len(lines)
        lights[row] = Text(glyph, style)
        buses[row] = Text("=" if nic.alive else "x", "dim" if nic.alive else STYLES["X"])
        pid = nic.state.pid
        line = Text(" ").append(f"{nic.number} {nic.name} ", "bold")
        line.append(f"pid {pid} " if pid is not None else "simulated ").append(word, style)
        lines.append(line)
        if len(view.nics) <= 3:
            lines.append(f"   {_nic_detail(view, nic, roles.get(nic.name, ''))}")
            lines.extend([""] * (len(view.nics) <= 2) * 2)
    while lines and lines[-1] == "":
        lines.pop()
    return lines, lights, buses


def _nic_state(view: MachineView, nic: NodeView) -> tuple[str, str, str]:
    """Glyph of its wire, a word, a style."""
    if not nic.alive:
        return "X", "DEAD", STYLES["X"]
    if nic.state.frozen:
        return "=", "STOP", STYLES["S"]
    if facts.cable_out(view, nic.name):
        return "x", "OUT", STYLES["X"]
    if nic.state.silent:
        return "=", "MUTE", STYLES["S"]
    return ("=", "up", STYLES["T"]) if nic.get("link_up") else ("x", "down", STYLES["X"])


def _nic_detail(view: MachineView, nic: NodeView, role: str) -> str:
    if not nic.alive:
        return f"  {facts.death(view, nic)}"
    if facts.cable_out(view, nic.name):
        return f"{role} cable out".strip()
    if view.settings.guest:
        role = "guest's" if nic.get("guest") else "waits"
    return f"{role or 'no slave':<7} 10G rx {rate(nic.rate('rx_frames_in'))}/s"


def _irq_rows(view: MachineView, rows: int) -> list[Line]:
    """The interrupt controller and its figures."""
    out: list[Line] = [""] * rows
    if view.settings.guest:
        there = any(nic.alive and nic.get("guest") for nic in view.nics)
        out[_HUB] = Text("== vfio-user", "bold" if there else "dim")
        out[3] = f"   {rate(sum(nic.rate('msi_out') for nic in view.nics))}/s"
        return out
    apic = view.apic
    style = "bold" if apic.running else STYLES["X"]
    out[_HUB] = (
        Text().append("== ", "dim").append(f"{apic.number} apic", style).append(" ==", "dim")
    )
    if not apic.alive:
        out[_HUB - 1] = Text("   DEAD", STYLES["X"])
    elif apic.state.frozen:
        out[_HUB - 1] = Text("   STOP", STYLES["S"])
    out[3] = f"   {rate(apic.rate('msi_in'))}/s"
    out[4] = f"   merged {facts.merged(view)}"
    out[5] = f"   IPI {rate(sum(c.rate('ipi_sent') for c in view.cpus))}/s"
    return out


def _cpu_rows(view: MachineView) -> tuple[list[Text], dict[int, Text]]:
    """Lines of the CPUs, and the ends of their interrupt lines by row.

    Two lines a CPU, one when there are more than three; past eight a column a CPU."""
    if len(view.cpus) > MANY_CPUS:
        return _cpu_columns(view), {_HUB: Text(">")}
    if view.settings.guest:
        lines = [Text()] * _HUB + [Text(" the guest's CPUs")]
        return lines, {_HUB: Text(">")}
    lines = []
    heads = {}
    for cpu in view.cpus:
        letter = cpufacts.context(cpu)
        heads[len(lines)] = Text(">") if cpu.alive else Text("X", STYLES["X"])
        line = Text(" ").append(f"{cpu.number} {cpu.name} ", "bold")
        if len(view.cpus) > 3:
            line.append_text(styled(letter)).append("  ")
            lines.append(line.append_text(styled(cpufacts.history(cpu, _HISTORY - 8))))
            continue
        pid = cpu.state.pid
        line.append(f"{pid}  " if pid is not None else " ").append_text(styled(letter))
        lines.append(line.append(f"  {_cpu_detail(cpu)}"))
        lines.append(Text("   ").append_text(styled(cpufacts.history(cpu, _HISTORY))))
        lines.extend([Text()] * (len(view.cpus) <= 2) * 2)
    while lines and not lines[-1]:
        lines.pop()
    return lines, heads


def _cpu_detail(cpu: NodeView) -> str:
    if not cpu.alive:
        return "DEAD"
    return "STOP" if cpu.state.frozen else f"runq {cpu.get('nr_running')}"


def _cpu_columns(view: MachineView) -> list[Text]:
    """A CPU is one column: its context now, and below it the heat of the last second."""
    room = WIDTH - 2 - _LAN - _NIC - _IRQ - 3 - 4
    out: list[Text] = []
    for first in range(0, len(view.cpus), room):
        cpus = view.cpus[first : first + room]
        now = styled("".join(cpufacts.context(cpu) for cpu in cpus))
        heat = "".join(_heat(sum(cpufacts.shares(cpu))) for cpu in cpus)
        out.append(Text(f"{first:>3} ", "bold").append_text(now))
        out.append(Text(f"    {heat}", STYLES["S"]))
    return out


def _heat(share: float) -> str:
    last = len(HEAT) - 1
    return HEAT[min(max(round(share * last), 1), last)] if share > 0.0005 else HEAT[0]


# ---------------------------------------------------------------- boxes below


def _bond(view: MachineView) -> Box:
    """bond0 as the kernel believes it is."""
    bond = facts.bond(view)
    if bond is None:
        text = "the kernel has no bond yet" if view.settings.bond else "this machine has no bond"
        return Box("bond", lambda c, n: [f"   {text}"], 2)
    lines = [
        Text(
            f" {'>' if s.active else ' '} {s.nic:<6}mii {s.link:<11}failures {s.failures}",
            style="bold" if s.active else "",
        )
        for s in bond.slaves
    ]
    title = f"{bond.name}  {bond.mode}  miimon {bond.miimon_ms}"
    return Box(title, lambda c, n: lines, max(len(lines), 2), min(max(len(lines), 2), 2))


def _ping(view: MachineView) -> Box:
    """The last ping: a character a request, and its sums."""
    ping = facts.ping(view)
    if ping is None:
        return Box("ping", lambda c, n: ["  nobody has pinged yet"], 2)
    title = f"ping {rate(1e9 / max(ping.interval_ns, 1))}/s" if ping.running else "ping, ended"

    def draw(columns: int, height: int) -> Sequence[Line]:
        window = ping.window[-(columns - 2) :]
        rtt = f"{ping.rtt_ns / 1e6:.2f} ms" if ping.rtt_ns else "-"
        sums = f" sent {ping.sent}  lost {ping.lost}  last rtt {rtt}"
        if ping.duplicates:
            sums += f"  dup {ping.duplicates}"
        return [Text(" ").append_text(_replies(window)), sums]

    return Box(title, draw, 2, note="! reply . none")


def _replies(window: str) -> Text:
    text = Text()
    for letter in window:
        text.append(letter, STYLES["T"] if letter == "!" else STYLES["X"])
    return text


def _log(view: MachineView, columns: int, height: int) -> Sequence[Line]:
    """The last lines of the kernel log, and whom the failover waits for."""
    waiting = facts.waiting(view)
    out: list[Line] = []
    for time_ns, text in view.kernel_log(height - bool(waiting)):
        line = f" [{time_ns / 1e9:9.3f}] {text}"
        out.append(line if len(line) <= columns else line[: columns - 2] + "..")
    return [*out, Text(f" {waiting}", style="bold")] if waiting else out


def _broken_now(view: MachineView) -> Box:
    broken = facts.breaks(view)
    lines = max(len(broken), 1)
    return Box("broken now", lambda c, n: _broken(broken, c, n), lines, min(lines, 3))


def _broken(broken: list[facts.Break], columns: int, height: int) -> Sequence[Line]:
    """What is broken, and the command that mends it."""
    if not broken:
        return [" nothing"]
    shown: list[Line] = [
        two(Text(f" {b.node}  {b.what}", style="bold"), f" mend: {b.mend:<20}", columns)
        for b in broken[:height]
    ]
    if len(broken) > height:
        rest = broken[height - 1 :]
        names = " ".join(dict.fromkeys(b.node for b in rest))
        shown[-1] = (
            f" and {len(rest)} more: {names}" if height > 1 else f" {len(rest)} things: {names}"
        )
    return shown
