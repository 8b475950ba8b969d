"""What all screens share: the header line and the footer."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from orchestrator.dashboards.draw import WIDTH, Line, two, uptime
from orchestrator.dashboards.model import MachineView, NodeView

HONEST = " us are the emulator's on this host; texts, counts, order and ms are Linux's"


class Size(NamedTuple):
    """Of the terminal, in characters; what the caller wants to say in the header and the footer."""

    width: int = WIDTH
    height: int = 24
    caption: str = ""
    message: str = ""  # takes the place of the keys for a moment


#: 80x24 and nothing to say.
PLAIN = Size()


def header(view: MachineView, node: NodeView | None, size: Size) -> Text:
    """Line 1: who, and in which world."""
    settings = view.settings
    who = Text().append(f" {settings.name}", style="bold")
    if node is not None:
        who.append(f" > {node.name}", style="bold")
        pid = node.state.pid
        who.append(f"   pid {pid}" if pid is not None else "   no pid: simulated", style="")
        if node.incarnation > 1:
            who.append(f"   life {node.incarnation}")
        if not node.alive:
            who.append("   DEAD", style="bold red")
        elif node.state.frozen:
            who.append("   frozen", style="bold yellow")
    time = "virtual time" if view.virtual else "real time"
    who.append(f"   era {settings.era}   {time}   up {uptime(view.up_ns)}")
    if size.caption:
        who.append("   ").append(size.caption, style="bold reverse")
    right = "? help " if node is None else "Esc back  ? help "
    return two(who, right, size.width)


def footer(keys: str, size: Size) -> list[Line]:
    """Keys (or a message) and the honest label."""
    return [
        Text(f" {size.message}", style="bold") if size.message else Text(f" {keys}", style="dim"),
        Text(HONEST, style="dim"),
    ]
